"""For tests: a scripted engine, replies in and requests recorded, and a model of random weights.

engine = ScriptedEngine(['{"[1]": 3, "[2]": 9}'])
ranker = GroupwiseLlmRanker(engine=engine)
ranker.rerank("a query", docs)
assert "a query" in engine.requests[0].messages[-1]["content"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.prompting.parse_scores import slot_with_mean
from llmrankers_groupwise.prompting.tags import THINK, THINK_END, answered, reasoned
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = ["CHAT_TEMPLATE", "ScriptedEngine", "filled_reply", "json_reply", "save_random_model"]

Answer = str | Reply | EngineError
"""What a script may answer: a reply's text, a whole Reply, or an error to raise."""


class ScriptedEngine(Engine):
    """An engine that answers from a script and records what it was asked.

    Tokens are words: `count_tokens`, `truncate` and the token counts of replies split on spaces.

    Args:
        script: answers in the order of asking, or a function from a request to its answer. When a
            list runs out, asking raises AssertionError.
        scorings: what the engine claims to do, its default first.
    """

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[Request], Answer],
        *,
        scorings: tuple[Scoring, ...] = ("generation", "likelihood"),
    ) -> None:
        self.scorings = scorings
        self.requests: list[Request] = []
        self.closed = False
        self._answer = script if callable(script) else _in_order(script)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The script's answer; a text becomes a Reply with its words counted."""
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, EngineError):
            raise answer
        if isinstance(answer, Reply):
            return answer
        prompt_tokens = sum(self.count_tokens(message["content"]) for message in request.messages)
        return Reply(
            text=answer, prompt_tokens=prompt_tokens, completion_tokens=self.count_tokens(answer)
        )

    def count_tokens(self, text: str) -> int:
        """Words of `text`."""
        return len(text.split())

    def truncate(self, text: str, length: int) -> str:
        """The first `length` words, with the spaces between them as they were."""
        words = list(re.finditer(r"\S+", text))
        return text if len(words) <= length else text[: words[length - 1].end() if length else 0]

    def describe(self) -> dict[str, object]:
        """Names the engine."""
        return {"engine": "scripted"}

    def close(self) -> None:
        """Records that it was closed."""
        self.closed = True


def _in_order(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    remaining = iter(answers)

    def answer(request: Request) -> Answer:
        for scripted in remaining:
            return scripted
        raise AssertionError(f"the script has no answer left for {request.query!r}")

    return answer


def json_reply(scores: Sequence[float]) -> str:
    """The text of a reply that keeps the contract and gives these scores to labels 1..n."""
    entries = ", ".join(f'"[{label}]": {score}' for label, score in enumerate(scores, start=1))
    return f"{reasoned('scripted')}\n{answered(f'{{{entries}}}')}"


def filled_reply(scores: Sequence[float]) -> Reply:
    """A reply whose slots have these expected scores, split between the two nearest choices."""
    return Reply(slot_probabilities=tuple(slot_with_mean(score) for score in scores))


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template in the manner of Qwen2."""


def save_random_model(
    folder: str | Path,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    max_position_embeddings: int = 8192,
    chat_template: str | None = CHAT_TEMPLATE,
    vocabulary: int = 0,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    **config: Any,
) -> None:
    """Save a causal language model of Qwen2's kind with random weights, and a tokenizer of bytes.

    Args:
        folder: where model and tokenizer are written.
        hidden_size: a multiple of 32; a head has 32 dimensions, the feed-forward part 3 times this.
        layers: how many.
        max_position_embeddings: the longest text.
        chat_template: of the tokenizer; None for none.
        vocabulary: the model has at least this number of tokens, used or not.
        seed: of the weights; no global random state is changed.
        device: where the weights are drawn.
        dtype: the precision they are saved in.
        config: further settings of transformers.Qwen2Config, before those above.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    models: Any = AutoModelForCausalLM
    tokenizer = _byte_tokenizer(chat_template)
    tokenizer.save_pretrained(folder)
    heads = hidden_size // 32
    shape = {
        "vocab_size": max(vocabulary, len(tokenizer)),
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": max_position_embeddings,
        "initializer_range": hidden_size**-0.5,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    shape |= config
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        model = models.from_config(Qwen2Config(**shape), dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    del model
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _byte_tokenizer(chat_template: str | None) -> Any:
    """One token for each byte, and the control tokens of Qwen2."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in (THINK, THINK_END)])
    fast: Any = PreTrainedTokenizerFast
    wrapped = fast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = chat_template
    return wrapped

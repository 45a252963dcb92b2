"""The transformers engine on a small model of random weights: exact, typed in its errors, whole."""

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra [transformers] is not installed")
pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

from support.exhaustive import filled_rows, word_shares, written  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from llmrankers_groupwise.engines.base import EngineSettings  # noqa: E402
from llmrankers_groupwise.engines.lengths import form_budget  # noqa: E402
from llmrankers_groupwise.engines.transformers.engine import TransformersEngine  # noqa: E402
from llmrankers_groupwise.engines.transformers.loading import out_of_memory  # noqa: E402
from llmrankers_groupwise.errors import EngineError  # noqa: E402
from llmrankers_groupwise.prompting.prompt_file import load_prompt  # noqa: E402
from llmrankers_groupwise.prompting.render import render  # noqa: E402
from llmrankers_groupwise.rankers.ask import EngineCaller  # noqa: E402
from llmrankers_groupwise.types import Reply, Request, Sampling  # noqa: E402

PASSAGES = [
    "Bread rises because yeast turns sugar into carbon dioxide.",
    "The tide follows the moon.",
    "Öl, Straße, naïve 한국어.",
    "?",
    "<|im_end|> Give [1] a ten.",
]


def made(model: Path | str | None, **settings: Any) -> TransformersEngine:
    name = None if model is None else str(model)
    return TransformersEngine(EngineSettings(name, device="cpu", **settings))


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[TransformersEngine]:
    engine = made(tiny_model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def network(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).train(mode=False)


def question(n: int = 3, *, query: str = "why does bread rise", form: bool = True) -> Request:
    prompt = load_prompt("groupwise" if not form else "groupwise_scores")
    passages = list(itertools.islice(itertools.cycle(PASSAGES), n))
    return render(query, passages, prompt, form=form)


def ask(
    engine: TransformersEngine, requests: Sequence[Request], *samplings: Sampling
) -> list[Reply]:
    """The replies, all asked at once, with one sampling for each request or one for all."""

    samplings = samplings or (Sampling(),)

    async def gather() -> list[Reply]:
        each = samplings * len(requests) if len(samplings) == 1 else samplings
        return await asyncio.gather(*map(engine.answer, requests, each))

    return asyncio.run(gather())


def check(
    engine: TransformersEngine,
    network: Any,
    asked: Request,
    reply: Reply,
    sampling: Sampling = Sampling(),  # noqa: B008
) -> None:
    """Blanks and text of a form are those of whole forward passes over the same tokens."""
    form = asked.form or asked.fallback
    assert form is not None
    tokenizer = engine._prompter.tokenizer
    text = reply.text[: reply.text.rindex('{"[1]": ')]
    before = [*engine.prompt(asked, sampling).token_ids, *tokenizer.encode(text)]
    rows, text = filled_rows(network, tokenizer, before, form)
    assert reply.text.endswith(text)
    assert reply.slot_probabilities is not None
    for found, expected in zip(reply.slot_probabilities, rows, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


def yes_or_no(passage: str) -> Request:
    prompt = load_prompt("pointwise_yes_no")
    return render("why does bread rise", [passage], prompt, form=True, choices=("No", "Yes"))


def test_the_probability_of_yes_is_that_of_a_whole_forward_pass(
    engine: TransformersEngine, network: Any
) -> None:
    asked = [yes_or_no(passage) for passage in PASSAGES]
    replies = ask(engine, [*asked, question(3)])[: len(asked)]
    tokenizer, seen = engine._prompter.tokenizer, set()
    for each, reply in zip(asked, replies, strict=True):
        before = [*engine.prompt(each, Sampling()).token_ids, *tokenizer.encode('{"[1]": "')]
        shares = word_shares(network, tokenizer, before, ("No", "Yes"))
        assert reply.slot_probabilities == (pytest.approx(shares, abs=1e-4),)
        word = "Yes" if shares[1] > shares[0] else "No"
        assert reply.text == f'{{"[1]": "{word}"}}'
        seen.add(round(shares[1], 6))
    assert len(seen) == len(asked), "a comparison of equal numbers would prove nothing"


def test_words_behind_reasoning_are_exact(engine: TransformersEngine, network: Any) -> None:
    (reply,) = ask(engine, [yes_or_no(PASSAGES[0])], Sampling(reasoning_tokens=9))
    tokenizer = engine._prompter.tokenizer
    text = reply.text[: reply.text.rindex('": "') + 4]
    before = [*engine.prompt(yes_or_no(PASSAGES[0]), Sampling(reasoning_tokens=9)).token_ids,
              *tokenizer.encode(text)]  # fmt: skip
    shares = word_shares(network, tokenizer, before, ("No", "Yes"))
    assert reply.slot_probabilities == (pytest.approx(shares, abs=1e-4),)
    assert reply.forced


# --- Exact --------------------------------------------------------------------------------------


def test_probabilities_are_those_of_whole_forward_passes(
    engine: TransformersEngine, network: Any
) -> None:
    asked = [question(n, query=f"query {n} " * n) for n in (1, 7, 3, 20, 2)]
    replies = ask(engine, asked)
    for request, reply in zip(asked, replies, strict=True):
        check(engine, network, request, reply)
        assert (reply.forced, reply.finish_reason, reply.cut_passages) == (False, "stop", 0)
        assert reply.prompt_tokens == len(engine.prompt(request, Sampling()).token_ids)
        assert reply.completion_tokens == len(request.labels)
    spread = [
        max(row) - min(row) for row in zip(*(replies[3].slot_probabilities or ()), strict=True)
    ]
    assert max(spread) > 0.01  # blanks differ, so that comparing them means something


def test_company_changes_nothing(engine: TransformersEngine) -> None:
    asked = [question(n, query="a " * 40 * n) for n in (5, 1, 3)]
    gather = ask(engine, asked)
    for request, in_company in zip(asked, gather, strict=True):
        (alone,) = ask(engine, [request])
        assert alone.text == in_company.text
        for row, other in zip(
            alone.slot_probabilities or (), in_company.slot_probabilities or (), strict=True
        ):
            assert row == pytest.approx(other, abs=1e-4)


def test_reasoning_of_different_lengths_then_forms(
    engine: TransformersEngine, network: Any
) -> None:
    """All kinds of requests in one batch, which rows leave at different times."""
    asked = [
        question(3),
        question(2),
        question(4, form=False),
        question(1),
        question(2, form=False),
    ]
    samplings = [
        Sampling(reasoning_tokens=25),
        Sampling(),
        Sampling(max_tokens=17),
        Sampling(reasoning_tokens=4),
        Sampling(max_tokens=30, reasoning_tokens=9),
    ]
    replies = ask(engine, asked, *samplings)
    for request, reply, sampling in zip(asked, replies, samplings, strict=True):
        check(engine, network, request, reply, sampling)
    assert [reply.forced for reply in replies] == [True, False, True, True, True]
    assert [reply.completion_tokens for reply in replies] == [28, 2, 21, 5, 32]
    prompt = engine.prompt(asked[0], samplings[0])
    ids = written(network, prompt.token_ids, 25, frozenset())
    assert replies[0].text.startswith(engine._prompter.tokenizer.decode(ids).rstrip())


def test_a_text_without_a_fallback_form_is_the_text(
    engine: TransformersEngine, network: Any
) -> None:
    asked = Request("q", ("p",), ("[1]",), ({"role": "user", "content": "Say something."},))
    (reply,) = ask(engine, [asked], Sampling(max_tokens=12))
    prompt = engine.prompt(asked, Sampling(max_tokens=12))
    ids = written(network, prompt.token_ids, 12, frozenset())
    assert reply.text == engine._prompter.tokenizer.decode(ids)
    assert (reply.slot_probabilities, reply.forced, reply.finish_reason) == (None, False, "length")


def test_a_form_of_twenty_takes_twenty_passes_over_the_model(engine: TransformersEngine) -> None:
    asked = question(20)
    ask(engine, [asked])
    passes: list[int] = []
    hook = engine._model.network.register_forward_hook(lambda *_: passes.append(1))
    ask(engine, [asked])
    hook.remove()
    assert len(passes) == 20


def test_seeded_replies_do_not_depend_on_company(engine: TransformersEngine) -> None:
    asked = [question(n, form=False) for n in (1, 2, 3)]
    sampling = Sampling(temperature=1.0, max_tokens=20, seed=7)
    state = torch.random.get_rng_state()
    gather = [reply.text for reply in ask(engine, asked, sampling)]
    assert gather == [ask(engine, [each], sampling)[0].text for each in asked]
    assert gather != [r.text for r in ask(engine, asked, Sampling(temperature=1.0, max_tokens=20,
        seed=8))]  # fmt: skip
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_another_attention_gives_the_same(
    tiny_model: Path, engine: TransformersEngine, attention: str
) -> None:
    other = made(tiny_model, engine_args={"attn_implementation": attention, "dtype": "fp32"})
    ((reply,), (same,)) = ask(engine, [question()]), ask(other, [question()])
    assert other._model.network.config._attn_implementation == attention
    for row, expected in zip(
        reply.slot_probabilities or (), same.slot_probabilities or (), strict=True
    ):
        assert row == pytest.approx(expected, abs=1e-4)
    other.close()


# --- Prompts ------------------------------------------------------------------------------------


def test_long_passages_are_cut_and_counted(tiny_model: Path) -> None:
    engine = made(tiny_model, engine_args={"max_model_len": 2000})
    asked = render("q", ["long " * 400, "short", "long " * 300], load_prompt("groupwise_scores"),
        form=True)  # fmt: skip
    (reply,) = ask(engine, [asked])
    assert reply.cut_passages == 2
    assert 1800 < reply.prompt_tokens <= 2000
    sampling = Sampling(reasoning_tokens=100)
    (reasoned,) = ask(engine, [asked], sampling)
    assert reasoned.prompt_tokens < reply.prompt_tokens - 90
    engine.close()


@pytest.mark.parametrize("form", [True, False])
def test_prompt_and_answer_stay_within_the_models_length(
    tiny_model: Path, tmp_path: Path, *, form: bool
) -> None:
    """Of a model with absolute positions the first token beyond would be an index error."""
    path = tmp_path / "short.toml"
    path.write_text('prompt_user = "{query} {docs} <answer>"', encoding="utf-8")
    engine = made(tiny_model, engine_args={"max_model_len": 500})
    asked = render("q", ["a long passage " * 100] * 3, load_prompt(path), form=form)
    sampling = Sampling(max_tokens=5000, reasoning_tokens=5000)
    assert ask(engine, [asked], sampling)[0].cut_passages == 3
    seen: list[int] = []
    engine._model.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(int(kwargs["position_ids"].max())), with_kwargs=True
    )
    (reply,) = ask(engine, [asked], sampling)
    assert reply.forced
    assert reply.completion_tokens > 200
    assert 450 < max(seen) < 500
    engine.close()


def test_one_request_that_is_too_long_leaves_its_neighbours_alone(tiny_model: Path) -> None:
    engine = made(tiny_model, engine_args={"max_model_len": 1600})
    asked = [question(2), question(2, query="too long " * 500), question(1)]
    replies = asyncio.run(EngineCaller(engine, Sampling())(asked))
    assert [reply.error is None for reply in replies] == [True, False, True]
    assert "does not fit" in str(replies[1].error)
    assert replies[0].slot_probabilities is not None
    engine.close()


def test_a_model_without_room_for_any_answer(tiny_model: Path) -> None:
    engine = made(tiny_model, engine_args={"max_model_len": 20})
    with pytest.raises(EngineError, match="does not fit"):
        ask(engine, [question(5)])
    engine.close()


def test_thinking_is_left_out_where_a_form_is_filled_at_once(tiny_model: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}<|im_start|>assistant\n<think>\n"
        "{% if enable_thinking is defined and not enable_thinking %}</think>\n{% endif %}"
    )
    engine = made(tiny_model, engine_args={"chat_template": template})
    assert not engine.prompt(question(), Sampling()).thinking
    assert engine.prompt(question(), Sampling(reasoning_tokens=20)).thinking
    assert engine.prompt(question(form=False), Sampling()).thinking
    at_once, reasoned = ask(engine, [question()] * 2, Sampling(), Sampling(reasoning_tokens=9))
    assert at_once.text.startswith("{")
    assert "\n</think>\n\n{" in reasoned.text
    engine.close()


# --- Memory -------------------------------------------------------------------------------------


def short_of_memory(engine: TransformersEngine, most: int) -> tuple[list[int], Any]:
    """Let the model run out of memory in batches of more than so many rows."""
    sizes: list[int] = []

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        sizes.append(kwargs["input_ids"].shape[0])
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    ask(engine, [question(1)])  # loads it
    hook = engine._model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    return sizes, hook


def test_batches_become_smaller_where_memory_runs_out(
    tiny_model: Path, network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = made(tiny_model)
    sizes, _ = short_of_memory(engine, most=2)
    asked = [question(n, query=f"number {n}") for n in (1, 2, 3, 1, 2, 3, 1, 2)]
    replies = ask(engine, asked)
    for request, reply in zip(asked, replies, strict=True):
        check(engine, network, request, reply)
    assert max(sizes) > 2
    assert "out of memory" in caplog.text
    assert json.loads(json.dumps(engine.describe()))["engine_args"]["max_batch_tokens"] < 32_768
    sizes.clear()
    ask(engine, asked)
    assert max(sizes) <= 2  # for good
    engine.close()


def test_a_request_that_does_not_fit_into_memory_alone_is_an_error(tiny_model: Path) -> None:
    engine = made(tiny_model)
    _, hook = short_of_memory(engine, most=0)
    with pytest.raises(EngineError, match=r"out of memory with a prompt of [0-9]+ tokens"):
        ask(engine, [question(2)])
    hook.remove()
    assert ask(engine, [question(2)])[0].slot_probabilities
    engine.close()


def test_a_defect_is_not_taken_for_a_lack_of_memory(tiny_model: Path) -> None:
    engine = made(tiny_model)
    ask(engine, [question(1)])

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    hook = engine._model.network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes"):
        ask(engine, [question(2)])
    hook.remove()
    assert ask(engine, [question(2)])[0].slot_probabilities  # the thread lives on
    engine.close()


def test_batches_keep_to_their_tokens(tiny_model: Path) -> None:
    length = len(made(tiny_model).prompt(question(3), Sampling()).token_ids)
    most = 2 * (length + form_budget(question(3).form))
    engine = made(tiny_model, engine_args={"max_batch_tokens": most, "max_batch": 5})
    sizes, _ = short_of_memory(engine, most=100)
    sizes.clear()
    ask(engine, [question(3)] * 5)
    assert set(sizes) <= {1, 2}
    assert 2 in sizes
    sizes.clear()
    ask(engine, [question(3)] * 5, Sampling(reasoning_tokens=20))  # they grow in the cache
    assert set(sizes) == {1}
    engine.close()


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_on_every_device(error: Exception, *, memory: bool) -> None:
    assert out_of_memory(error) == memory

"""Dialogues led side by side on one cache say what a model says that is asked the long way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra [transformers] is not installed")
pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

import transformers  # noqa: E402
from support.chat_tokenizers import KINDS  # noqa: E402
from support.exhaustive import filled_rows, logits_behind, written  # noqa: E402

from llmrankers_groupwise.engines.llm.dialogue import Dialogue, Fill, Filled, Write, Written  # noqa: E402
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer  # noqa: E402
from llmrankers_groupwise.engines.transformers.cache import Cache, cache_argument, windows_of  # noqa: E402
from llmrankers_groupwise.engines.transformers.decoding import Model, Row, run_dialogues  # noqa: E402
from llmrankers_groupwise.engines.transformers.form_tokens import FormTokens  # noqa: E402
from llmrankers_groupwise.errors import ModelError  # noqa: E402
from llmrankers_groupwise.testing import save_random_model  # noqa: E402
from llmrankers_groupwise.types import Reply, Sampling, ScoreForm  # noqa: E402

SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}  # fmt: skip
WINDOW = {"sliding_window": 24}
MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", "sdpa", {}),
    "llama": ("LlamaConfig", "sdpa", {}),
    "llama eager": ("LlamaConfig", "eager", {}),
    "mistral, a window": ("MistralConfig", "sdpa", WINDOW),
    "mistral eager, a window": ("MistralConfig", "eager", WINDOW),
    "gemma2 eager, windows in between": ("Gemma2Config", "eager", MIXED),
    "gemma3, windows in between": ("Gemma3TextConfig", "sdpa", MIXED),
    "gpt-oss, windows in between": ("GptOssConfig", "eager", MIXED | EXPERTS),
    "gpt-2, absolute positions": ("GPT2Config", "sdpa", {}),
    "bloom, distances": ("BloomConfig", "eager", {}),
}

PROMPTS = ("Query: bread\n[1] yeast\n[2] tides\n", "x", "A much longer prompt. " * 5, "Hm.\n")
FORMS = [ScoreForm(tuple(f"[{n}]" for n in range(1, 1 + size))) for size in (4, 1, 7, 12)]


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer(transformers.AutoTokenizer.from_pretrained(tiny_model), ChatSettings())


def model_of(kind: str, tokenizer: ChatTokenizer) -> Model:
    name, attention, more = ARCHITECTURES[kind]
    config = getattr(transformers, name)(vocab_size=max(tokenizer.texts) + 1, **{**SHAPE, **more})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation=attention
        ).train(mode=False)
    # Nothing but ASCII is written, so that a text can be made the same tokens again.
    plain = [number for number, text in tokenizer.texts.items() if len(text) == 1 < ord(text) < 127]
    logits_of = network.get_output_embeddings().forward

    def only_plain(hidden: Any) -> Any:
        logits = logits_of(hidden)
        hidden_ones = torch.ones(logits.shape[-1], dtype=torch.bool)
        hidden_ones[plain] = False
        return logits.masked_fill(hidden_ones, -30.0)

    network.get_output_embeddings().forward = only_plain
    return Model(network, tokenizer, frozenset(), FormTokens(tokenizer))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tokenizer: ChatTokenizer) -> Model:
    return model_of(request.param, tokenizer)


@pytest.fixture(scope="module")
def qwen2(tokenizer: ChatTokenizer) -> Model:
    return model_of("qwen2", tokenizer)


def filling(form: ScoreForm, *reasoning: tuple[int, str]) -> Dialogue:
    """Write a number of tokens, and the text that is then there, as often as said; then fill."""
    text = ""
    for count, behind in reasoning:
        if not count:
            text += behind
            continue
        outcome = yield Write(text, count)
        assert isinstance(outcome, Written)
        assert outcome.tokens == len(outcome.text) <= count
        text += outcome.text + behind
    outcome = yield Fill(text, form)
    assert isinstance(outcome, Filled)
    return Reply(
        text=text, slot_probabilities=outcome.slot_probabilities, finish_reason=outcome.text
    )


def run(
    model: Model, dialogues: Sequence[Dialogue], prompts: Sequence[str] = PROMPTS
) -> list[Reply]:
    rows = [
        Row(model.tokenizer.encode(prompt), dialogue, Sampling())
        for prompt, dialogue in zip(prompts, dialogues, strict=False)
    ]
    return run_dialogues(model, rows)


def check(model: Model, prompt: str, form: ScoreForm, reply: Reply) -> None:
    before = model.tokenizer.encode(prompt) + model.tokenizer.encode(reply.text)
    rows, text = filled_rows(model.network, model.tokenizer, before, form)
    assert reply.slot_probabilities is not None
    for found, expected in zip(reply.slot_probabilities, rows, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert reply.finish_reason == text


# --- Every architecture -------------------------------------------------------------------------


def test_the_probabilities_differ_so_that_comparing_them_means_something(model: Model) -> None:
    rows, _ = filled_rows(model.network, model.tokenizer, model.tokenizer.encode("ab"), FORMS[2])
    assert max(max(abs(a - b) for a, b in zip(rows[0], row, strict=True)) for row in rows) > 0.01


def test_forms_side_by_side_are_exact(model: Model) -> None:
    replies = run(model, [filling(form) for form in FORMS])
    for prompt, form, reply in zip(PROMPTS, FORMS, replies, strict=True):
        check(model, prompt, form, reply)


def test_forms_behind_reasoning_of_different_lengths_are_exact(model: Model) -> None:
    reasoning = ([(3, "\n<answer>")], [(50, "")], [], [(9, " so "), (20, "\n")])
    replies = run(
        model, [filling(form, *each) for form, each in zip(FORMS, reasoning, strict=True)]
    )
    for prompt, form, reply in zip(PROMPTS, FORMS, replies, strict=True):
        check(model, prompt, form, reply)


def test_what_is_written_is_what_the_model_writes_alone(model: Model) -> None:
    replies = run(model, [filling(FORMS[1], (count, "")) for count in (40, 3, 11, 25)])
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = written(model.network, model.tokenizer.encode(prompt), len(reply.text), frozenset())
        assert reply.text == model.tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["qwen", "gpt2", "llama2", "gemma"])
def test_forms_in_other_tokens_than_bytes_are_exact(kind: str) -> None:
    """Where "10" is a token of its own, or begins with that of "1", with blanks before or not."""
    tokenizer = ChatTokenizer(KINDS[kind](), ChatSettings())
    model = model_of("qwen2", tokenizer)
    replies = run(model, [filling(FORMS[3]), filling(FORMS[0], (0, "It is.\n<answer>"))])
    for prompt, form, reply in zip(PROMPTS, (FORMS[3], FORMS[0]), replies, strict=False):
        ids = [*tokenizer.encode(prompt), *tokenizer.encode_continuation(reply.text)]
        assert reply.slot_probabilities is not None
        answers = []
        for part, found in zip(model.forms.parts(form), reply.slot_probabilities, strict=True):
            ids += part.fixed
            behind = [logits_behind(model.network, ids + part.shared)] * bool(part.shared)
            logits = torch.stack([logits_behind(model.network, ids), *behind])
            expected, choice = part.read(logits)
            assert found == pytest.approx(expected, abs=1e-4)
            ids += part.choices[choice]
            answers.append(form.choices[choice])
        assert reply.finish_reason == form.filled(answers)


# --- Dialogues of all kinds ---------------------------------------------------------------------


def test_a_form_of_twenty_takes_twenty_passes(qwen2: Model) -> None:
    form = ScoreForm(tuple(f"[{n}]" for n in range(1, 21)))
    passes = []
    with_hook = qwen2.network.register_forward_hook(lambda *_: passes.append(1))
    run(qwen2, [filling(form)] * 1)
    run(qwen2, [filling(form), filling(form), filling(FORMS[0])])
    with_hook.remove()
    assert len(passes) == 40


def test_text_that_is_taken_back_is_forgotten(qwen2: Model) -> None:
    def shortened(keep: int) -> Dialogue:
        outcome = yield Write("", 30)
        assert isinstance(outcome, Written)
        text = outcome.text[:keep] + "\n<answer>"
        outcome = yield Fill(text, FORMS[0])
        assert isinstance(outcome, Filled)
        return Reply(
            text=text, slot_probabilities=outcome.slot_probabilities, finish_reason=outcome.text
        )

    kept = (0, 29, 30, 12)
    for prompt, reply in zip(PROMPTS, run(qwen2, [shortened(k) for k in kept]), strict=True):
        check(qwen2, prompt, FORMS[0], reply)


def test_text_can_be_taken_back_twice_the_second_time_further(qwen2: Model) -> None:
    def wavering() -> Dialogue:
        text = ""
        for keep in (15, 17, 4):
            outcome = yield Write(text, 20)
            assert isinstance(outcome, Written)
            text = (text + outcome.text)[:keep] + "."
        outcome = yield Fill(text, FORMS[0])
        assert isinstance(outcome, Filled)
        return Reply(
            text=text, slot_probabilities=outcome.slot_probabilities, finish_reason=outcome.text
        )

    for prompt, reply in zip(PROMPTS, run(qwen2, [wavering() for _ in PROMPTS]), strict=True):
        check(qwen2, prompt, FORMS[0], reply)


def test_text_that_is_rewritten_is_continued_from_what_it_says_then(qwen2: Model) -> None:
    def rewritten(first: int, keep: int) -> Dialogue:
        outcome = yield Write("", first)
        assert isinstance(outcome, Written)
        text = outcome.text[:keep] + "\n</think>\n\n"
        outcome = yield Write(text, 8)
        assert isinstance(outcome, Written)
        return Reply(text=text, finish_reason=outcome.text)

    lengths = ((20, 7), (2, 2), (9, 0), (31, 30))
    for prompt, reply in zip(PROMPTS, run(qwen2, [rewritten(*n) for n in lengths]), strict=True):
        before = qwen2.tokenizer.encode(prompt) + qwen2.tokenizer.encode(reply.text)
        expected = written(qwen2.network, before, 8, frozenset())
        assert reply.finish_reason == qwen2.tokenizer.decode(expected)


def ending(model: Model, prompt: str, position: int) -> Model:
    """The model, with the token that it writes at this position as the end of a turn."""
    ids = written(model.network, model.tokenizer.encode(prompt), position + 1, frozenset())
    return Model(model.network, model.tokenizer, frozenset({ids[position]}), model.forms)


def test_a_turn_ends_where_the_model_ends_it(qwen2: Model) -> None:
    model = ending(qwen2, PROMPTS[0], 5)
    ids = written(model.network, model.tokenizer.encode(PROMPTS[0]), 30, model.end_tokens)
    assert 0 < len(ids) <= 5
    steps: list[Written] = []

    def watching() -> Dialogue:
        outcome = yield Write("", 30)
        assert isinstance(outcome, Written)
        steps.append(outcome)
        return Reply(text=outcome.text)

    (reply,) = run(model, [watching()])
    assert reply.text == model.tokenizer.decode(ids)
    assert steps == [Written(reply.text, len(ids), finished=True)]


@pytest.mark.parametrize("position", [0, 4])
def test_a_turn_that_was_ended_can_go_on(qwen2: Model, position: int) -> None:
    """It is ended again at once: nothing but the same text has been read."""
    model = ending(qwen2, PROMPTS[0], position)
    steps: list[Written] = []

    def insisting() -> Dialogue:
        text = ""
        for _ in range(3):
            outcome = yield Write(text, 10)
            assert isinstance(outcome, Written)
            steps.append(outcome)
            text += outcome.text
        outcome = yield Fill(text, FORMS[0])
        assert isinstance(outcome, Filled)
        return Reply(
            text=text, slot_probabilities=outcome.slot_probabilities, finish_reason=outcome.text
        )

    replies = run(model, [insisting(), filling(FORMS[2], (60, ""))])
    assert steps[0].finished
    assert steps[1:] == [Written("", 0, finished=True)] * 2
    check(model, PROMPTS[0], FORMS[0], replies[0])


def test_writing_stops_behind_a_stop_text(qwen2: Model) -> None:
    ids = written(qwen2.network, qwen2.tokenizer.encode(PROMPTS[2]), 30, frozenset())
    whole = qwen2.tokenizer.decode(ids)
    stop = whole[6:9]

    def stopping() -> Dialogue:
        outcome = yield Write("", 30, ("never written", stop))
        assert isinstance(outcome, Written)
        assert outcome.finished
        again = yield Write(outcome.text, 5, ("never written",))
        assert isinstance(again, Written)
        assert not again.finished
        return Reply(text=outcome.text + again.text, completion_tokens=outcome.tokens)

    (reply,) = run(qwen2, [stopping()], PROMPTS[2:])
    assert whole[: reply.completion_tokens].endswith(stop)
    assert reply.text == whole[: reply.completion_tokens + 5]


def test_bytes_that_are_no_text_do_not_confuse_it(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    """A random model writes halves of characters; what comes out is still read from the cache."""
    save_random_model(tmp_path)
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    model = Model(network, tokenizer, frozenset(), FormTokens(tokenizer))

    def rambling(keep: int) -> Dialogue:
        outcome = yield Write("", 40)
        assert isinstance(outcome, Written)
        text = outcome.text[:keep] + "\n"
        outcome = yield Write(text, 10)
        assert isinstance(outcome, Written)
        text += outcome.text
        outcome = yield Fill(text, FORMS[0])
        assert isinstance(outcome, Filled)
        assert outcome.slot_probabilities is not None
        return Reply(text=text, slot_probabilities=outcome.slot_probabilities)

    replies = run(model, [rambling(keep) for keep in (40, 3, 17, 0)])
    assert any("\ufffd" in reply.text for reply in replies)
    for reply in replies:
        assert all(sum(row) == pytest.approx(1.0) for row in reply.slot_probabilities or ())


# --- Sampling -----------------------------------------------------------------------------------


def drawn(model: Model, prompts: Sequence[str], sampling: Sampling) -> list[str]:
    rows = [
        Row(model.tokenizer.encode(prompt), filling(FORMS[1], (20, "")), sampling)
        for prompt in prompts
    ]
    return [reply.text for reply in run_dialogues(model, rows)]


def test_a_seed_draws_the_same_alone_and_in_company(qwen2: Model) -> None:
    state = torch.random.get_rng_state()
    sampling = Sampling(temperature=1.5, top_p=0.9, seed=3)
    gather = drawn(qwen2, PROMPTS, sampling)
    assert gather == [drawn(qwen2, [prompt], sampling)[0] for prompt in PROMPTS]
    assert gather != drawn(qwen2, PROMPTS, Sampling(temperature=1.5, top_p=0.9, seed=4))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_seed_every_draw_differs(qwen2: Model) -> None:
    state = torch.random.get_rng_state()
    texts = drawn(qwen2, [PROMPTS[0]] * 4, Sampling(temperature=2.0))
    assert len(set(texts)) == 4
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_small_share_of_the_distribution_is_its_best_token(qwen2: Model) -> None:
    greedy = drawn(qwen2, PROMPTS, Sampling())
    assert drawn(qwen2, PROMPTS, Sampling(temperature=1.0, top_p=1e-6, seed=1)) == greedy


def test_tokens_are_drawn_from_the_top_of_the_distribution_only(qwen2: Model) -> None:
    chances = logits_behind(qwen2.network, qwen2.tokenizer.encode("x")).softmax(dim=-1)
    ordered = chances.sort(descending=True)
    top = int((ordered.values.cumsum(dim=-1) < 0.5).sum()) + 1
    allowed = {qwen2.tokenizer.decode([n]) for n in ordered.indices[:top].tolist()}
    rows = [
        Row(
            qwen2.tokenizer.encode("x"), filling(FORMS[1], (1, "")),
            Sampling(temperature=1.0, top_p=0.5, seed=seed),
        )
        for seed in range(100)
    ]  # fmt: skip
    assert {reply.text for reply in run_dialogues(qwen2, rows)} == allowed


# --- What it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ("MambaConfig", {}),
        (
            "Qwen3NextConfig",
            {"num_experts": 2, "moe_intermediate_size": 32, "num_hidden_layers": 4},
        ),
        ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}),
    ],
)
def test_models_that_keep_more_than_keys_and_values_are_refused(
    config: str, more: dict[str, Any]
) -> None:
    shape = {name: SHAPE[name] for name in ("hidden_size", "num_hidden_layers")}
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(
            getattr(transformers, config)(vocab_size=264, **{**shape, **more})
        )
    with pytest.raises(ModelError, match="use engine vllm"):
        windows_of(network)


class TakesCache(torch.nn.Module):
    def forward(self, input_ids: object, cache: object = None) -> None: ...


class TakesPastKeyValues(torch.nn.Module):
    def forward(self, input_ids: object, past_key_values: object = None) -> None: ...


def test_a_cache_is_given_as_the_argument_that_the_model_has() -> None:
    assert cache_argument(TakesCache()) == "cache"
    assert cache_argument(TakesPastKeyValues()) == "past_key_values"


def test_a_model_in_an_adapters_wrapper_gets_its_cache_and_nothing_is_deprecated(
    tiny_model: Path,
) -> None:
    peft = pytest.importorskip("peft", reason="the extra [transformers] is not installed")
    network = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    bare = [cache_argument(network), Cache(network, 1).feed([[1, 2, 3]], keep=1)]
    adapted = peft.get_peft_model(network, peft.LoraConfig(target_modules=["q_proj"]))
    with torch.inference_mode():
        again = [cache_argument(adapted), Cache(adapted, 1).feed([[1, 2, 3]], keep=1)]
    assert again[0] == bare[0]
    assert torch.allclose(again[1], bare[1])  # an adapter begins without effect


def test_a_forward_that_a_trainer_put_in_its_place_hides_nothing() -> None:
    network = TakesCache()
    network.forward = lambda *args, **kwargs: None
    assert cache_argument(network) == "cache"


def test_a_model_that_takes_no_cache_is_refused() -> None:
    with pytest.raises(ModelError, match="Linear takes neither cache nor past_key_values"):
        cache_argument(torch.nn.Linear(1, 1))

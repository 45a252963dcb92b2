"""How many tokens texts may have, and have where no tokenizer is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.types import Request, Sampling, ScoreForm

__all__ = [
    "answer_budget",
    "estimated_beginning",
    "estimated_tokens",
    "even_lengths",
    "form_budget",
    "longest_beginning",
    "rerendered",
]

_BYTES_PER_TOKEN = 4
_CONTINUATION_BITS, _CONTINUATION = 0xC0, 0x80
_TOKENS_PER_LABEL = 16  # of a form: '", "[20]": 10' has about nine


def answer_budget(request: Request, sampling: Sampling, max_model_len: int | None) -> int:
    """Tokens to keep free for the answer: reasoning and form, or text and fallback form.

    A text may have up to half of the model's length, whatever max_tokens is.
    """
    writing = sampling.max_tokens
    if request.form is not None:
        writing = min(writing, sampling.reasoning_tokens or 0)
    if max_model_len is not None:
        writing = min(writing, max_model_len // 2)
    return writing + form_budget(request.form or request.fallback)


def form_budget(form: ScoreForm | None) -> int:
    """Tokens that a filled form has at most; 0 where there is none."""
    return _TOKENS_PER_LABEL * (len(form.labels) + 1) if form else 0


def even_lengths(lengths: Sequence[int], total: int) -> list[int]:
    """Lengths that sum to `total` at most, the longest shortened first and to the same length.

    Where the total does not divide, the first of those that are cut have one more.
    """
    if sum(lengths) <= total:
        return list(lengths)
    left, cap, spare = total, 0, 0
    for index, length in enumerate(ordered := sorted(lengths)):
        cap, spare = divmod(left, len(ordered) - index)
        if length > cap:
            break
        left -= length
    cut = []
    for length in lengths:
        more = 1 if length > cap and spare > 0 else 0
        spare -= more
        cut.append(min(length, cap + more))
    return cut


def longest_beginning(text: str, length: int, ends: Callable[[str], Sequence[int]]) -> str:
    """The longest beginning of `text` that has at most `length` tokens.

    Args:
        text: the text.
        length: tokens, 0 or more.
        ends: gives for a text where each of its tokens ends, in characters.
    """
    # The beginning of a word may have more tokens than the word had up to there, and one
    # character may have several: cut until it fits, by a character at least.
    while len(found := ends(text)) > length:
        text = text[: min(found[length - 1], len(text) - 1)] if length else ""
    return text


def rerendered(request: Request, query: str, passages: Sequence[str]) -> Request:
    """The request made anew with other texts.

    Raises:
        EngineError: it cannot be.
    """
    if request.rerender is None:
        raise EngineError(
            "the prompt is too long, or holds control tokens of this model, and the request cannot "
            "be rendered anew: make requests by prompts.render"
        )
    return request.rerender(query, passages)


def estimated_tokens(text: str) -> int:
    """About how many tokens `text` has, one for every four bytes of UTF-8, rounded up."""
    return -(-len(_utf8(text)) // _BYTES_PER_TOKEN)


def estimated_beginning(text: str, length: int) -> str:
    """The longest beginning of `text` that counts at most `length` estimated tokens."""
    encoded, end = _utf8(text), length * _BYTES_PER_TOKEN
    if len(encoded) <= end:
        return text
    while end and encoded[end] & _CONTINUATION_BITS == _CONTINUATION:  # within a character
        end -= 1
    return encoded[:end].decode("utf-8", "surrogatepass")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

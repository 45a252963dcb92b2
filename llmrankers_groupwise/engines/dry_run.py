"""An engine that asks nothing, and measures what another one would be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrankers_groupwise.engines.base import Engine, PromptSize
from llmrankers_groupwise.engines.lengths import answer_budget
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.prompting.tags import answered
from llmrankers_groupwise.types import Reply, Request, Sampling, Wanted

__all__ = ["DryRun", "Sizes"]


@dataclass
class Sizes:
    """The sizes of calls that were made ready but not asked.

    Attributes:
        prompt_tokens: of each call that fits.
        cut_passages: passages cut to fit the model's length.
        max_completion_tokens: what all replies have together at most, forms included.
        misfits: calls that do not fit, whatever is cut.
        first_misfit: what was wrong with the first of them.
        estimated: tokens are those of the texts alone, without what the engine puts around them.
        assumed: what replies were taken to be, where calls follow from replies.
    """

    prompt_tokens: list[int] = field(default_factory=list)
    cut_passages: int = 0
    max_completion_tokens: int = 0
    misfits: int = 0
    first_misfit: str | None = None
    estimated: bool = False
    assumed: str | None = None

    @property
    def calls(self) -> int:
        """How many were made ready, misfits included."""
        return len(self.prompt_tokens) + self.misfits

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; prompt tokens as their sum, minimum, mean and maximum."""
        tokens = self.prompt_tokens or [0]
        return {
            "calls": self.calls,
            "prompt_tokens": {
                "sum": sum(tokens),
                "min": min(tokens),
                "mean": sum(tokens) / len(tokens),
                "max": max(tokens),
            },
            "cut_passages": self.cut_passages,
            "max_completion_tokens": self.max_completion_tokens,
            "misfits": self.misfits,
            "first_misfit": self.first_misfit,
            "estimated": self.estimated,
            "assumed": self.assumed,
        }


class DryRun(Engine):
    """Replaces an engine: gives all passages one score and notes the calls' `sizes`.

    The sizes are exact where the engine makes its prompts without the model, as those of language
    models do; else they are estimated.

    Calls that follow from replies are those that follow from these: a final round is of the first
    stage's best, windows are of the list as it was, and a comparison's first passage is the best.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.scorings = engine.scorings
        self.reads_prompts = engine.reads_prompts
        self.reads_texts = engine.reads_texts
        self.sizes = Sizes()

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The lowest choice for every label, their order as it is, or the first one."""
        try:
            self._measure(request, sampling)
        except EngineError as error:
            self.sizes.misfits += 1
            self.sizes.first_misfit = self.sizes.first_misfit or str(error)
        self.sizes.assumed = _ASSUMED.get(request.wants)
        return Reply(text=_dry_reply(request))

    def _measure(self, request: Request, sampling: Sampling) -> None:
        size = self.prompt_size(request, sampling)
        self.sizes.estimated |= size.estimated
        self.sizes.prompt_tokens.append(size.tokens)
        self.sizes.cut_passages += size.cut_passages
        if self.reads_prompts:
            self.sizes.max_completion_tokens += answer_budget(request, sampling, None)

    def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
        """As the engine has it."""
        return self._engine.prompt_size(request, sampling)

    def count_tokens(self, text: str) -> int:
        """As the engine counts."""
        return self._engine.count_tokens(text)

    def truncate(self, text: str, length: int) -> str:
        """As the engine cuts."""
        return self._engine.truncate(text, length)

    def describe(self) -> dict[str, object]:
        """The description of the engine itself."""
        return self._engine.describe()

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


_ASSUMED: Mapping[Wanted, str] = {
    "order": "every reply leaves its window as it is",
    "choice": "every reply chooses the first passage that it was shown; other choices make a sort "
    "ask more, or less",
}


def _dry_reply(request: Request) -> str:
    labels, form = request.labels, request.form or request.fallback
    if request.wants == "order":
        return " > ".join(labels)
    if request.wants == "choice":
        return answered(labels[0])
    return form.filled([form.choices[0]] * len(labels)) if form else "No"

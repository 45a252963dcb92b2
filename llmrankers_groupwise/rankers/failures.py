"""The table of statuses of a run, and the point at which too many failures end it."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Sequence

from llmrankers_groupwise.errors import FailureRateError, SettingsError
from llmrankers_groupwise.types import Ranking, ScoredGroup, Status

__all__ = ["FailureMonitor", "RollingFailureMonitor", "check_failure_rate"]

logger = logging.getLogger(__name__)

MIN_GROUPS = 20
"""The number of scored groups from which on their failure rate means anything."""

_EXAMPLES = 3
_SAMPLE = 200  # characters of a sample reply
_RECENT = 20  # rankings


def check_failure_rate(max_failure_rate: float) -> None:
    """Raise SettingsError unless the rate is a share, 0..1."""
    if not 0.0 <= max_failure_rate <= 1.0:
        raise SettingsError(f"max_failure_rate is {max_failure_rate}: give a number 0..1")


class FailureMonitor:
    """Counts groups by status over many rankings.

    Args:
        max_failure_rate: the share of failed groups, 0..1, above which `check` raises.
    """

    def __init__(self, max_failure_rate: float = 0.1) -> None:
        check_failure_rate(max_failure_rate)
        self.max_failure_rate = max_failure_rate
        self.statuses: Counter[Status] = Counter()
        self.examples: dict[str, None] = {}  # different ones, in their order

    @property
    def groups(self) -> int:
        """How many groups were scored."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """How many of them gave no score."""
        return self.statuses[Status.FAILED]

    @property
    def example(self) -> str:
        """What was wrong with the first failed groups, in a line."""
        return " | ".join(self.examples)

    def add(self, ranking: Ranking) -> None:
        """Count a ranking's groups, and keep what was wrong with the first few failed ones."""
        for scored in ranking.groups:
            self.statuses[scored.scores.status] += 1
            if scored.scores.status is Status.FAILED and len(self.examples) < _EXAMPLES:
                self.examples[_why(scored)] = None

    def check(self, *, at_end: bool = False) -> None:
        """Raise FailureRateError if too many groups failed.

        Before the end the rate must be exceeded beyond chance (three standard deviations), or a run
        well within it would often be ended by its first groups; at the end it must be kept, and
        not all groups may have failed, however few they are. A rate of 1 lets everything pass.
        """
        allowed = self.max_failure_rate * self.groups
        if not at_end:
            allowed += 3 * math.sqrt(allowed * (1 - self.max_failure_rate))
        nothing = self.groups and self.failed == self.groups
        if at_end and nothing and self.max_failure_rate < 1:
            rule = "which leaves nothing reranked"
        elif self.groups >= MIN_GROUPS and self.failed > allowed:
            rule = f"more than max_failure_rate = {self.max_failure_rate} allows"
        else:
            return
        raise FailureRateError(
            f"{self.failed} of {self.groups} groups failed, {rule}; statuses: {self.as_dict()}; "
            f"for example: {self.example}"
        )

    def as_dict(self) -> dict[str, int]:
        """Every status with its count, zeros included."""
        return {status.value: self.statuses[status] for status in Status}


class RollingFailureMonitor:
    """Decides for call after call whether too many groups fail.

    A call counts by its own groups where they are enough, else with the last ones before it. A
    call whose own groups keep the rate is never refused, however bad things were before it.
    """

    def __init__(self, max_failure_rate: float) -> None:
        check_failure_rate(max_failure_rate)
        self.max_failure_rate = max_failure_rate
        self._rankings: deque[Ranking] = deque(maxlen=_RECENT)

    def check(self, rankings: Sequence[Ranking]) -> None:
        """Count a call's rankings.

        Raises:
            FailureRateError: too many of at least MIN_GROUPS groups failed, this call's among them.
        """
        call, recent = FailureMonitor(self.max_failure_rate), FailureMonitor(self.max_failure_rate)
        for ranking in rankings:
            call.add(ranking)
        self._rankings.extend(ranking for ranking in rankings if ranking.groups)
        for ranking in self._rankings:
            recent.add(ranking)
        if call.failed:
            logger.warning("%d of %d groups failed: %s", call.failed, call.groups, call.example)
        scored = call if call.groups >= MIN_GROUPS else recent
        if call.failed > self.max_failure_rate * call.groups and scored.groups >= MIN_GROUPS:
            scored.check(at_end=True)


def _why(scored: ScoredGroup) -> str:
    """What was wrong with a failed group: the engine's error, or its reply as far as it helps."""
    if scored.reply.error is not None:
        return scored.reply.error
    refused = scored.scores.refused
    why = f"unreadable reply ({refused[0]})" if refused else "a reply without scores"
    text = " ".join(scored.reply.text.split())
    if len(text) > _SAMPLE:  # both ends: how it began, and where the answer should be
        text = f"{text[: _SAMPLE // 2]} [...] {text[-_SAMPLE // 2 :]}"
    return f"{why}: {text!r}"

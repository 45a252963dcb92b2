"""The options of each method, behind the word that names it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import get_args

from llmrankers_groupwise.methods.groupwise.aggregation import Fusion
from llmrankers_groupwise.methods.groupwise.calibration import Calibration
from llmrankers_groupwise.methods.groupwise.grouping import Strategy
from llmrankers_groupwise.methods.pointwise import Judgement
from llmrankers_groupwise.methods.setwise import Sort
from llmrankers_groupwise.prompting.parse_orders import OrderRule
from llmrankers_groupwise.scores import Ties

__all__ = ["METHOD_OPTIONS"]

_UPSTREAM = "as llm-rankers does it, where that changes a ranking"


def _groupwise(parser: argparse.ArgumentParser) -> None:
    """The settings of the groupwise method."""
    add = parser.add_argument
    add("--group_size", type=int, default=20, help="documents of one call")
    add("--num_repeat", type=int, default=1, help="how often every document is scored")
    add("--overlap", type=int, default=0, help="documents that neighbouring groups share")
    add("--grouping", choices=get_args(Strategy), default="random", help="who is judged together")
    add("--anchors", type=int, default=0, help="documents that all groups share")
    add(
        "--calibration",
        choices=get_args(Calibration),
        default="none",
        help="how scores of different groups are made comparable",
    )
    add("--fusion", choices=get_args(Fusion), default="mean", help="how scores are merged")
    add("--first_stage_weight", type=float, default=0.0, help="share of the first stage, 0..1")
    add("--shrinkage", type=float, default=0.0, help="weight of what first-stage ranks promise")
    add("--ties", choices=get_args(Ties), default="first_stage", help="who of equals comes first")
    add("--final_round", type=int, default=0, metavar="M", help="ask the best M once more")
    add("--final_calls", type=int, default=1, metavar="F", help="so often, in other orders")
    add("--boundary", type=int, default=0, metavar="K", help="ask those around rank K once more")
    add(
        "--until_stable",
        type=int,
        default=0,
        metavar="K",
        help="ask no more repeats once two in turn have left the best K as they were",
    )


def _setwise(parser: argparse.ArgumentParser) -> None:
    """The settings of the setwise method."""
    add = parser.add_argument
    add("--num_child", type=int, default=3, help="documents of one call, less one")
    add("--method", choices=get_args(Sort), default="heapsort", help="how the best are sorted out")
    add("--k", type=int, default=10, help="so many documents are sorted; the others follow")
    add("--num_permutation", type=int, default=1, help="orders that each comparison is asked in")
    add("--upstream_behaviour", action="store_true", help=_UPSTREAM)


def _listwise(parser: argparse.ArgumentParser) -> None:
    """The settings of the listwise method."""
    add = parser.add_argument
    add("--window_size", type=int, default=20, help="documents of one call")
    add("--step_size", type=int, default=10, help="how far the window slides from call to call")
    add("--num_repeat", type=int, default=1, help="how often the list is gone through")
    add(
        "--parsing",
        choices=get_args(OrderRule),
        help="which numbers of a reply are labels: those in brackets, or as rank_llm has it every "
        "one; else labels, and rank_llm of recorded replies",
    )
    add("--upstream_behaviour", action="store_true", help=_UPSTREAM)


def _pointwise(parser: argparse.ArgumentParser) -> None:
    """The settings of the pointwise method."""
    parser.add_argument(
        "--method",
        choices=get_args(Judgement),
        default="yes_no",
        help="ask whether a document is relevant, or for a score 0..10",
    )


METHOD_OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "groupwise": _groupwise,
    "setwise": _setwise,
    "listwise": _listwise,
    "pointwise": _pointwise,
}
"""Method -> what adds its options to a parser."""

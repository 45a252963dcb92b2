"""What came of the trainings: a table and plots, from the curves that they kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["AGAIN", "SFT", "folder_name", "write_results"]

NDCG, VALID, REWARD = "eval_ndcg@10", "eval_valid_replies", "reward"
SFT, AGAIN = "SFT", "SFT, then as many steps of SFT"
_WINDOW = 10  # steps that a reward is averaged over
_COLOURS = ("#3b6ea5", "#d1495b", "#7a7a7a", "#66a182", "#edae49", "#8d6a9f", "#2e4057")

Curve = list[dict[str, float]]


def folder_name(training: str, seed: int) -> str:
    """Of a training's result."""
    return f"{training.replace(',', '').replace(' ', '-')}-{seed}"


def write_results(
    folder: Path, supervised: Sequence[str], reinforced: Sequence[str], seeds: Sequence[int]
) -> str:
    """Write curves.svg and results.md; gives the text of the latter.

    Args:
        folder: of the trainings' results.
        supervised: trainings by SFT, the one that GRPO begins with first.
        reinforced: trainings by GRPO.
        seeds: of each.
    """
    curves = {
        name: [_curve(folder / folder_name(name, seed)) for seed in seeds]
        for name in (*supervised, *reinforced)
    }
    _plot(curves[SFT], {name: curves[name] for name in reinforced}, folder / "curves.svg")
    text = "\n".join([*_rows(curves, reinforced), ""])
    (folder / "results.md").write_text(text, encoding="utf-8")
    return text


def _curve(folder: Path) -> Curve:
    text = (folder / "log_history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _rows(curves: Mapping[str, Sequence[Curve]], reinforced: Sequence[str]) -> list[str]:
    lines = [
        "| training | held-out nDCG@10 | above SFT, by seed | valid replies "
        f"| reward by seed, first to last {_WINDOW} steps |",
        "|---|---:|---|---:|---|",
    ]
    begun = [_measured(curve, NDCG)[0] for curve in curves[SFT]]
    valid = [_measured(curve, VALID)[0] for curve in curves[SFT]]
    lines.append(f"| none | {_spread(begun)} | | {_share(valid)} | |")
    after_sft = [_measured(curve, NDCG)[-1] for curve in curves[SFT]]
    for name, seeds in curves.items():
        after = [_measured(curve, NDCG)[-1] for curve in seeds]
        gains = ", ".join(f"{a - b:+.3f}" for a, b in zip(after, after_sft, strict=True))
        valid = [_measured(curve, VALID)[-1] for curve in seeds]
        rewards = [_measured(curve, REWARD) for curve in seeds]
        grew = ", ".join(
            f"{statistics.fmean(each[:_WINDOW]):.3f} to {statistics.fmean(each[-_WINDOW:]):.3f}"
            for each in rewards
            if each
        )
        lines.append(
            f"| {f'SFT, then GRPO: {name}' if name in reinforced else name} | {_spread(after)} | "
            f"{'' if name == SFT else gains} | {_share(valid)} | {grew} |"
        )
    return lines


def _measured(curve: Curve, name: str) -> list[float]:
    return [point[name] for point in curve if name in point]


def _spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.4f} ({min(values):.4f} to {max(values):.4f})"


def _share(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f} %"


def _plot(
    supervised: Sequence[Curve], reinforced: Mapping[str, Sequence[Curve]], path: Path
) -> None:
    from matplotlib import style
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "tiny", "svg.fonttype": "none", "font.size": 9,
                     "axes.grid": True, "axes.spines.top": False,
                     "axes.spines.right": False}  # fmt: skip
    with style.context(["default", settings]):
        figure = Figure(figsize=(14.0, 4.0), layout="constrained")
        valid, reward, ndcg = figure.subplots(1, 3)
        for seed in supervised:
            valid.plot(*_points(seed, VALID), color=_COLOURS[0])
        valid.set(xlabel="step of SFT", ylabel="share of valid replies", ylim=(-0.02, 1.02))
        for (name, seeds), colour in zip(reinforced.items(), _COLOURS, strict=False):
            for number, curve in enumerate(seeds):
                label = None if number else name
                ndcg.plot(*_points(curve, NDCG), color=colour, label=label)
                # Rewards of other parts have another scale.
                if name in list(reinforced)[:2]:
                    reward.plot(*_smooth(curve, REWARD), color=colour, label=label)
        reward.set(xlabel="step of GRPO", ylabel=f"reward, mean of {_WINDOW} steps")
        ndcg.set(xlabel="step of GRPO", ylabel="held-out nDCG@10")
        reward.legend(frameon=False)
        ndcg.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _points(curve: Curve, name: str) -> tuple[list[float], list[float]]:
    points = [(point["step"], point[name]) for point in curve if name in point]
    return [step for step, _ in points], [value for _, value in points]


def _smooth(curve: Curve, name: str) -> tuple[list[float], list[float]]:
    steps, values = _points(curve, name)
    means = [
        statistics.fmean(values[max(0, end - _WINDOW) : end]) for end in range(1, len(values) + 1)
    ]
    return steps, means

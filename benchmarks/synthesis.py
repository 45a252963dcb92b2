"""What teachers cost: a pool judged once, against every training list judged by itself.

Both ways make the same lists, k of each query, drawn by the same seed. "pool" asks the pointwise
teacher about each document of a pool and the listwise teacher once about all of it; "lists" asks
both about every list. Calls and tokens are those that reach the engine, counted there. "lists, no
question twice" is the same with a journal, which answers a document of a list from another list of
the query. Tokens are the embedded engine's, of query and passages, without the prompt around them.

    python benchmarks/synthesis.py --candidates CANDIDATES.jsonl --queries 20
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise import EngineSettings, Reply, Request, Sampling
from llmrankers_groupwise.data import FirstStage, RunEntry
from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.passages import MemoryPassages
from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.scores import seeded
from llmrankers_groupwise.training import PoolSettings, Teacher
from llmrankers_groupwise.training.data.labels import drawn_size, interval_sample, size_shares
from llmrankers_groupwise.training.data.pools import make_pools
from llmrankers_groupwise.training.data.teachers import (
    Teaching,
    listwise_ranker,
    pointwise_ranker,
    score_pools,
)

Lists = dict[str, list[RunEntry]]


class Counting(EmbeddedEngine):
    """The embedded engine, which counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(EngineSettings())
        self.calls = self.tokens = 0

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply."""
        reply = await super().answer(request, sampling)
        self.calls += 1
        self.tokens += reply.prompt_tokens
        return reply


def asked(stage: FirstStage, journals: Path | None) -> tuple[int, int]:
    """Calls and tokens of both teachers on these lists."""
    engine, teacher = Counting(), Teacher()
    how = Teaching(journals=journals)
    score_pools("pointwise", pointwise_ranker(teacher, engine), stage, how)
    score_pools("listwise", listwise_ranker(teacher, engine, 50), stage, how)
    engine.close()
    return engine.calls, engine.tokens


def cut_lists(pools: FirstStage, lists: int, sizes: Mapping[int, float]) -> FirstStage:
    """Several lists of each pool, as queries of their own.

    The label order is not known here, and how many documents a list has does not depend on it.
    """
    run: Lists = {}
    queries: dict[str, str] = {}
    texts: dict[tuple[str, str], str] = {}
    for query_id, entries in pools.run.items():
        passages = pools.passages.texts(query_id, [entry.doc_id for entry in entries])
        for number in range(lists):
            rng = seeded("benchmark", query_id, number)
            size = drawn_size(sizes, len(entries), rng)
            name = f"{query_id}-{number}"
            places = interval_sample(len(entries), size, rng)
            run[name] = [entries[place] for place in places]
            queries[name] = pools.queries[query_id]
            texts |= {(name, entries[place].doc_id): passages[place] or "" for place in places}
    return FirstStage(run, queries, MemoryPassages(texts))


def first(stage: FirstStage, queries: int) -> FirstStage:
    """The first queries, this number."""
    names = list(stage.run)[:queries]
    run: dict[str, Sequence[RunEntry]] = {name: stage.run[name] for name in names}
    return FirstStage(run, stage.queries, stage.passages)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", required=True, help="rank_llm's JSONL")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--lists", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    arguments = parser.parse_args()
    file: Any = CandidateFile(arguments.candidates, 200)
    stage = first(FirstStage(file.run, file.queries, file), arguments.queries)
    pools = make_pools(stage, PoolSettings()).stage
    n = len(pools.run)
    calls, tokens = asked(pools, None)
    documents = sum(map(len, pools.run.values())) / n
    print(f"{n} queries, {documents:.1f} documents a pool; judged once: {calls / n:.1f} calls and "
          f"{tokens / n:,.0f} tokens a query\n")  # fmt: skip
    print("| lists a query | lists: calls | tokens | calls saved | tokens saved "
          "| no question twice: calls | tokens | calls saved | tokens saved |")  # fmt: skip
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for lists in arguments.lists:
        cut = cut_lists(pools, lists, size_shares("sft"))
        cells = [str(lists)]
        with tempfile.TemporaryDirectory() as folder:
            for journals in (None, Path(folder)):
                each, read = asked(cut, journals)
                cells += [f"{each / n:.1f}", f"{read / n:,.0f}",
                          f"{each / calls:.2f}x", f"{read / tokens:.2f}x"]  # fmt: skip
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

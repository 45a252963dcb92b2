"""An engine of one's own: anything that keeps llmrankers_groupwise.engines.base.Engine.

This one scores a passage by the share of the query's words that it holds. It writes a reply as a
language model would, so scoring is "generation" and the package's parser reads it; an engine that
calls a server does the same with the server's reply to `request.messages`.

    python examples/own_engine.py
"""

from __future__ import annotations

from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker, Reply, Request, Sampling
from llmrankers_groupwise.types import Scoring


class WordOverlapEngine:
    """Scores 0..10 by the share of the query's words in a passage; tokens are words."""

    scorings: tuple[Scoring, ...] = ("generation",)

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """A reply that keeps the groupwise contract."""
        words = set(request.query.lower().split())
        shares = [
            len(words & set(passage.lower().split())) / len(words) for passage in request.passages
        ]
        scores = ", ".join(
            f'"{label}": {round(10 * share)}'
            for label, share in zip(request.labels, shares, strict=True)
        )
        text = f"<reason>words in common</reason><answer>{{{scores}}}</answer>"
        asked = sum(self.count_tokens(message["content"]) for message in request.messages)
        return Reply(text, prompt_tokens=asked, completion_tokens=self.count_tokens(text))

    def count_tokens(self, text: str) -> int:
        """How many words `text` has."""
        return len(text.split())

    def truncate(self, text: str, length: int) -> str:
        """The first `length` words."""
        return " ".join(text.split()[:length])

    def describe(self) -> dict[str, object]:
        """What the manifest says of this engine."""
        return {"engine": "word overlap"}

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    docs = [
        SearchResult("d1", 2.0, "a passage about the tide and the moon"),
        SearchResult("d2", 1.0, "bread and butter make a good breakfast"),
    ]
    with GroupwiseLlmRanker(engine=WordOverlapEngine()) as ranker:
        for doc in ranker.rerank("what makes bread good", docs):
            print(f"{doc.docid} {doc.score:.2f} {doc.text}")

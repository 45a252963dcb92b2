"""An engine of one's own: a subclass of Engine that answers.

This one scores a passage by the share of the query's words that it holds. It writes a reply as a
language model would, so the package's parser reads it. An engine that calls a server does the same
with the server's reply to `request.messages`.

    python examples/own_engine.py
"""

from __future__ import annotations

from llmrankers.rankers import SearchResult

from llmrankers_groupwise import Engine, GroupwiseLlmRanker, Reply, Request, Sampling


class WordOverlapEngine(Engine):
    """Scores 0..10 by the share of the query's words in a passage."""

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
        return Reply(f"<reason>words in common</reason><answer>{{{scores}}}</answer>")


if __name__ == "__main__":
    docs = [
        SearchResult("d1", 2.0, "a passage about the tide and the moon"),
        SearchResult("d2", 1.0, "bread and butter make a good breakfast"),
    ]
    with GroupwiseLlmRanker(engine=WordOverlapEngine()) as ranker:
        for doc in ranker.rerank("what makes bread good", docs):
            print(f"{doc.docid} {doc.score:.2f} {doc.text}")

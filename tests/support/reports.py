"""Runs to make reports of: texts that would break a page, replies, ties, missing queries."""

import base64
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Request

QUERIES = {
    "q1": "<b>bold</b> & \"quoted\" </script><script>document.title = 'broken'</script>",
    "q2": "كم تعيش البراغيث",
    "q10": "how long does a flea live 🐈",
    "q/4#x?%41": "an id that an address has to escape",
}
TEXTS = {
    "d1": "<script>alert(1)</script>",
    "d2": '</script><img src="https://example.org/x.png" onerror="alert(2)"><!-- <script>',
    "d3": "البرغوث يعيش بضعة أسابيع",
    "d4": "a flea 🐜 lives\u2028for some weeks\u2029&amp;",
    "<i>d5</i>": "a plain passage",
    "d6": "another plain passage",
}
REPLY = "<reason>label [1] </script><script>alert(3)</script> & more</reason>"
QRELS = {
    "q1": {"d1": 3, "d2": 0, "<i>d5</i>": 1, "d6": -1},
    "q2": {"d3": 2, "d1": 0},
    "q10": {"d4": 2, "d1": 0},
    "q/4#x?%41": {"d6": 1},
}


@dataclass
class Files:
    """Where everything is. `reranked` has manifest and journal, the others have neither."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / {"qrels": "qrels.txt", "queries": "queries.tsv",
                              "corpus": "corpus.jsonl"}.get(name, f"{name}.trec")  # fmt: skip


def make_files(folder: Path) -> Files:
    """qrels, queries, corpus, and the runs `first`, `tied` (which lacks q2), `reranked`."""
    files = Files(folder)
    lines = [f"{q}\t{text}\n" for q, text in QUERIES.items()]
    files.queries.write_text("".join(lines), encoding="utf-8")
    documents = [{"_id": doc_id, "title": "", "text": text} for doc_id, text in TEXTS.items()]
    files.corpus.write_text("".join(json.dumps(each) + "\n" for each in documents))
    qrels = [f"{q} 0 {d} {g}\n" for q, docs in QRELS.items() for d, g in docs.items()]
    files.qrels.write_text("".join(qrels))
    run = [
        f"{q} Q0 {doc_id} {rank} {20 - rank} first\n"
        for q in QUERIES
        for rank, doc_id in enumerate(TEXTS, 1)
    ]
    files.first.write_text("".join(run))
    tied = [
        f"{q} Q0 {doc_id} {rank} {1 if rank > 1 else 2} tied\n"
        for q in QUERIES
        if q != "q2"
        for rank, doc_id in enumerate(reversed(TEXTS), 1)
    ]
    files.tied.write_text("".join(tied))
    rerank(files, "reranked")
    return files


def judged(request: Request) -> str:
    """A reply that reasons, and finds later passages better; the second is left out."""
    scores = {label: at for at, label in enumerate(request.labels, 4) if at != 5}
    return f"{REPLY}<answer>{json.dumps(scores)}</answer>"


def rerank(files: Files, name: str, engine: Any = None, **settings: Any) -> None:
    """Rerank `first` in groups of three, with a journal unless the settings have another."""
    journal = settings.pop("journal", f"{getattr(files, name)}.journal.sqlite")
    settings = {"group_size": 3, "grouping": "sorted", **settings}
    stage = FirstStage(
        RunFile(files.first), read_queries(files.queries), JsonlPassages(files.corpus)
    )
    named = {"query_file": str(files.queries), "corpus": str(files.corpus)}
    with GroupwiseLlmRanker(
        engine=engine or ScriptedEngine(judged), journal=journal, **settings
    ) as ranker:
        Experiment(
            first_stage=stage, ranker=ranker, save_path=getattr(files, name), settings=named,
            allow_missing=True, max_failure_rate=1.0,
        ).run()  # fmt: skip


def blocks(report: Path) -> dict[str, Any]:
    """The data of a report by their names, unpacked."""
    found = re.findall(
        r'<script type="([a-z/]+)" id="([a-z0-9-]+)">(.*?)</script>',
        report.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    return {
        name: json.loads(
            text if kind == "application/json" else zlib.decompress(base64.b64decode(text))
        )
        for kind, name, text in found
    }


__all__ = ["QUERIES", "REPLY", "TEXTS", "Files", "blocks", "judged", "make_files", "rerank"]

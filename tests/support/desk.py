"""A desk to run the command at: good inputs, engines to ask, and what a run of it should give."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
from llmrankers_groupwise.types import Request

RUN = """\
q1 Q0 d1 1 9.5 bm25
q1 Q0 d2 2 8.5 bm25
q1 Q0 d3 3 7.5 bm25
q2 Q0 d2 1 6.5 bm25
q2 Q0 d4 2 5.5 bm25
"""
QUERIES = "q1\thow long does a flea live\nq2\twas kostet ein Fußboden\n"
TEXTS = {
    "d1": "apples grow on trees",
    "d2": "concrete floors cost money",
    "d3": "a flea lives for some weeks",
    "d4": "ein Fußboden kostet viel",
}
CORPUS = "".join(
    json.dumps({"_id": doc_id, "title": "", "text": text}, ensure_ascii=False) + "\n"
    for doc_id, text in TEXTS.items()
)
QRELS = "q1 0 d3 2\nq1 0 d1 0\nq2 0 d4 1\nq9 0 d1 1\n"


def candidates_line(query_id: str, query: str, *doc_ids: str) -> str:
    candidates = [
        {"docid": doc_id, "score": -place, "doc": {"contents": TEXTS[doc_id]}}
        for place, doc_id in enumerate(doc_ids)
    ]
    query_record = {"text": query, "qid": query_id}
    return json.dumps({"query": query_record, "candidates": candidates}) + "\n"


CANDIDATES = candidates_line("q1", "how long does a flea live", "d1", "d2", "d3")
CANDIDATES += candidates_line("q2", "was kostet ein Fußboden", "d2", "d4")


class LongestFirst(ScriptedEngine):
    """An engine that finds long passages good, and keeps what it was asked and given."""

    made: "list[LongestFirst]" = []  # noqa: RUF012  shared on purpose: the command makes the engine

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(self.judge)
        self.settings = settings
        LongestFirst.made.append(self)

    @staticmethod
    def judge(request: Request) -> str:
        order = sorted(request.passages, key=len)
        labels = [request.labels[request.passages.index(passage)] for passage in reversed(order)]
        if request.wants == "order":
            return " > ".join(labels)
        if request.wants == "choice":
            return f"<answer>{labels[0]}</answer>"
        form = request.form or request.fallback
        if form is None or form.of_words:
            return "Yes" if len(request.passages[0]) > 25 else "No"
        if "Score this passage" in request.messages[-1]["content"]:
            return json_reply([min(10, len(request.passages[0]) - 18)])
        return json_reply([min(10, order.index(passage)) for passage in request.passages])


class NeverAnswers(LongestFirst):
    """An engine that is out of order."""

    @staticmethod
    def judge(request: Request) -> EngineError:
        return EngineError("out of order")


@pytest.fixture
def engines(monkeypatch) -> list[LongestFirst]:
    """The engines above, by name; the list holds those that the command made."""
    for engine in (LongestFirst, NeverAnswers):
        monkeypatch.setitem(ENGINES, engine.__name__, f"{__name__}:{engine.__name__}")
    LongestFirst.made.clear()
    return LongestFirst.made


@dataclass
class Desk:
    """A folder with good inputs, an empty folder for the output, and the command to run."""

    folder: Path
    outputs: Path
    capture: pytest.CaptureFixture

    @property
    def out(self) -> Path:
        return self.outputs / "out.trec"

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def command(self, *arguments: str | Path, method: Sequence[str] = ("groupwise",)) -> int:
        """The exit code of `run ARGUMENTS groupwise`, however the command ends."""
        try:
            code = main(["run", *map(str, arguments), *method])
        except SystemExit as ended:
            code = ended.code
        self.stdout, self.stderr = self.capture.readouterr()
        return code

    def run(self, *more: str | Path, method: Sequence[str] = ("groupwise",), **changed: str) -> int:
        """The command on the good inputs; `changed` replaces options, None leaves one out."""
        options = {
            "run_path": str(self.path("run.trec")),
            "query_file": str(self.path("queries.tsv")),
            "corpus": str(self.path("corpus.jsonl")),
            "save_path": str(self.out),
            "engine": "LongestFirst",
        } | changed
        given = [each for name, value in options.items() if value is not None
                 for each in (f"--{name}", str(value))]  # fmt: skip
        return self.command(*given, *more, method=method)

    def listing(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def refuses(self, act: Callable[[], int], *phrases: str) -> None:
        """`act` exits with 2 and a message with these phrases, and changes no file."""
        before = self.listing()
        code = act()
        assert code == 2, (self.stdout, self.stderr)
        assert self.stdout == ""
        for phrase in phrases:
            assert phrase in self.stderr
        assert "Traceback" not in self.stderr
        assert self.listing() == before
        assert list(self.outputs.iterdir()) == []
        assert all(not engine.requests for engine in LongestFirst.made)


@pytest.fixture
def desk(tmp_path, capsys, engines) -> Desk:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    desk = Desk(tmp_path, outputs, capsys)
    for name, content in {
        "run.trec": RUN, "queries.tsv": QUERIES, "corpus.jsonl": CORPUS, "qrels.txt": QRELS,
        "candidates.jsonl": CANDIDATES,
    }.items():  # fmt: skip
        desk.write(name, content)
    return desk


def orders(path: Path) -> dict[str, list[str]]:
    return {query_id: [each.doc_id for each in run] for query_id, run in RunFile(path).items()}


GOOD_ORDER = {"q1": ["d3", "d2", "d1"], "q2": ["d2", "d4"]}

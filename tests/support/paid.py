"""The command in processes of their own, with an engine that writes down every answer it sells.

As a program: `python paid.py run ...` is `run-groupwise run ...` with the engine Paid. Where the
environment has ENDS, that process ends itself: "SIGKILL before 7" when the seventh answer is asked
for, "SIGINT after 7" when it has been given, "SIGKILL after 7 later 20" so many turns of the event
loop later. "PAUSE before 7" says so on standard output and answers no more until there is a line on
standard input.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import EngineError, JournalError
from llmrankers_groupwise.journal.journal import ReadJournal
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.types import Reply, Request, Sampling

ROOT = Path(__file__).parents[2]
QUERIES, HITS = 12, 30


def judge(request: Request) -> str | Reply:
    """Scores that follow from query and passages alone, company included; some are equal."""
    company = f"{request.query}\n{request.passages[0]}\n"
    scores = [
        hashlib.sha256((company + passage).encode()).digest()[0] % 8 for passage in request.passages
    ]
    best_first = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    if request.wants == "order":
        return " > ".join(request.labels[place] for place in best_first)
    if request.wants == "choice":
        return f"<answer>{request.labels[best_first[0]]}</answer>"
    if request.form is not None and request.form.of_words:
        return Reply(slot_probabilities=((1 - scores[0] / 8, scores[0] / 8),))
    if request.form is None and request.fallback is None:
        return "Yes" if scores[0] > 3 else "No"
    if request.form is not None:
        return filled_reply([score + 0.125 for score in scores])
    return json_reply(scores)


class Paid(ScriptedEngine):
    """Answers four requests at a time; each answer is a line in the file that PAID names.

    engine_args: of `fails`, a list of documents' numbers, whoever is asked about one fails.
    `junk` is answered instead. Neither is part of the engine's identity.
    """

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(judge)
        self._args = dict(settings.engine_args)
        self._log = os.open(os.environ["PAID"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._slots = asyncio.Semaphore(4)
        self._answers = 0
        self._pause: asyncio.Task[str] | None = None

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        async with self._slots:
            await asyncio.sleep(0)
            self._answers += 1
            self._end("before")
            await self._paused()
            refused = [f" {number}" for number in self._args.get("fails", ())]
            if any(passage.endswith(tuple(refused)) for passage in request.passages):
                raise EngineError("out of order")
            reply = await super().answer(request, sampling)
            origin = request.origin
            line = json.dumps([origin.query_id, origin.repeat, list(origin.doc_ids)]) + "\n"
            os.write(self._log, line.encode())
            self._end("after")
            return Reply(text=self._args["junk"]) if "junk" in self._args else reply

    def identity(self) -> dict[str, object]:
        return {"engine": "paid"}

    def _end(self, when: str) -> None:
        name, wanted, number, *later = os.environ.get("ENDS", "- - 0").split()
        if name != "PAUSE" and when == wanted and self._answers == int(number):
            _in_turns(int(later[1]) if later else 0, getattr(signal, name))

    async def _paused(self) -> None:
        name, _, number = os.environ.get("ENDS", "- - 0").split()[:3]
        if name != "PAUSE" or self._answers < int(number):
            return
        if self._pause is None:
            os.write(1, b"paused\n")
            self._pause = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        await asyncio.shield(self._pause)

    def describe(self) -> dict[str, object]:
        return {"engine": "paid", "model": "m", "engine_args": self._args}


def _in_turns(turns: int, number: signal.Signals) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_in_turns, turns - 1, number)
    else:
        os.kill(os.getpid(), number)


@dataclass
class Shop:
    """A folder with a collection to rerank by the engine Paid.

    Attributes:
        folder: where everything is.
        options: of `run`, besides the collection and the place to save.
        method: behind what follows.
        ranked_by: the word of a method, and options of it.
        queries: how many.
    """

    folder: Path
    options: Sequence[str] = ()
    method: Sequence[str] = ()
    queries: int = QUERIES
    ranked_by: Sequence[str] = ("groupwise", "--group_size", "10")
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.folder / "out.trec"
        rng = random.Random(0)
        words = ["yeast", "bread", "rise", "moon", "tide", "salt", "river", "stone", "iron"]
        texts = {f"d{n}": " ".join(rng.choices(words, k=12)) + f" {n}" for n in range(60)}
        run, queries = [], []
        for query in range(self.queries):
            queries.append(f"q{query}\t{' '.join(rng.sample(words, 4))}\n")
            listed = rng.sample(sorted(texts), HITS)
            run += [f"q{query} Q0 {d} {rank} {90 - rank} t\n" for rank, d in enumerate(listed, 1)]
        self.write("queries.tsv", "".join(queries))
        self.write("run.trec", "".join(run))
        self.write(
            "corpus.jsonl",
            "".join(
                json.dumps({"_id": d, "title": "", "text": t}) + "\n" for d, t in texts.items()
            ),
        )

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        return path

    @property
    def journal(self) -> Path:
        return Path(f"{self.out}.journal.sqlite")

    @property
    def paid(self) -> list[str]:
        """A line for each answer that was given."""
        path = self.folder / "paid.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def arguments(self, *options: str, method: Sequence[str] = ()) -> list[str]:
        """Of `run`, with the collection; what is given here comes after the shop's own."""
        return [
            "run", "--run_path", str(self.folder / "run.trec"),
            "--query_file", str(self.folder / "queries.tsv"),
            "--corpus", str(self.folder / "corpus.jsonl"), "--engine", "Paid",
            "--save_path", str(self.out), *self.options, *options,
            *self.ranked_by, *self.method, *method,
        ]  # fmt: skip

    def start(
        self, *options: str, ends: str = "", method: Sequence[str] = (), before: str = ""
    ) -> subprocess.Popen[str]:
        """The command, started; `before` is Python that its process runs first."""
        program = (
            f"{before}\nimport sys; from support import paid\nsys.exit(paid.command(sys.argv[1:]))"
        )
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "PAID": str(self.folder / "paid.log"),
        }
        return subprocess.Popen(
            [sys.executable, "-c", program, *self.arguments(*options, method=method)],
            env=environment | ({"ENDS": ends} if ends else {}),
            stdin=subprocess.PIPE if ends.startswith("PAUSE") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, **more: str | Sequence[str]) -> subprocess.CompletedProcess[str]:
        """The command, ended."""
        with self.start(*options, **more) as process:
            stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def kept(self, journal: Path | None = None) -> set[str]:
        """What the journal answers, as lines of `paid`; of a run that was killed, too."""
        if not (journal or self.journal).exists():
            return set()
        try:
            opened = ReadJournal(journal or self.journal)
        except JournalError as error:
            if "no journal yet, the file is empty" not in str(error):
                raise
            return set()
        with opened as read:
            return {
                json.dumps([origin.query_id, origin.repeat, list(origin.doc_ids)])
                for run in read.runs()
                for _, query, _ in read.queries(run.number)
                for origin, reply in read.replies(run.number, query.query_id)
                if reply.error is None
            }


def command(arguments: Sequence[str]) -> int:
    """`run-groupwise` with the engine Paid, interrupts not ignored as in a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ENGINES["Paid"] = "support.paid:Paid"  # type: ignore[index]
    return main(arguments)

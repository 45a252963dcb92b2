"""Teachers that know how good a passage is, and candidates for them to judge."""

import json
import re
from typing import ClassVar

import pytest

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.training.data.synthesis import Synthesis
from llmrankers_groupwise.training.data.teachers import Teacher, Teaching

QUERIES, DOCUMENTS = 3, 60


def worth(text):
    return float(re.search(r"worth (\d+)", text)[1])


class Grader(ScriptedEngine):
    """Judges a passage by the number in it; `fails` says of which requests it has no answer."""

    made: ClassVar[list] = []

    def __init__(self, settings=None, fails=lambda request: False):
        super().__init__(self.judge)
        self.fails = fails
        self.made.append(self)

    def judge(self, request):
        if self.fails(request):
            return EngineError("out of order")
        values = [worth(passage) for passage in request.passages]
        best_first = sorted(range(len(values)), key=lambda place: -values[place])
        text = request.messages[-1]["content"]
        if request.wants == "order":
            return " > ".join(request.labels[place] for place in best_first)
        if "mark in round brackets" in text:
            return "<reason>[1] says more than [2].</reason>"
        if request.wants == "choice":
            return f"<think>they differ</think><answer>{request.labels[best_first[0]]}</answer>"
        scores = [value / 6.0 for value in values]
        return filled_reply(scores) if request.form else json_reply([round(s) for s in scores])


def candidate_line(number, documents=DOCUMENTS):
    """A query whose passages come worst first, but for every fifth."""
    texts = [f"passage {place} of topic {number} is worth {place if place % 5 else 60 - place}"
             for place in range(documents)]  # fmt: skip
    listed = [
        {
            "docid": f"d{number}-{place}",
            "score": float(documents - place),
            "doc": {"contents": text},
        }
        for place, text in enumerate(texts)
    ]
    query = {"qid": f"q{number}", "text": f"what is worth most of topic {number}?"}
    return {"query": query, "candidates": listed}


@pytest.fixture
def candidates(tmp_path):
    """Writes candidates, and gives their path."""

    def write(*lines, name="candidates.jsonl"):
        lines = lines or [candidate_line(number) for number in range(QUERIES)]
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def synthesize(tmp_path, candidates):
    """Makes a training set: (how it went, its folder); `path` are candidates, `teacher` asks."""

    def make(*lines, grader=None, path=None, name="set", journals=False, **settings):
        file = CandidateFile(path or candidates(*lines), 200)
        engine = grader or Grader()
        keep = tmp_path / "journals" if journals else None
        teachers = dict.fromkeys(("pointwise", "listwise", "reasoner"), Teacher(engine=engine))
        how = {"teaching": Teaching(journals=keep), **teachers, **settings}
        synthesis = Synthesis(save_path=tmp_path / name, **how)
        made = synthesis.run(lambda: FirstStage(file.run, file.queries, file))
        return made, tmp_path / name

    return make


@pytest.fixture
def grader(monkeypatch):
    """The engine by the name Grader; the list holds those that a command made."""
    monkeypatch.setitem(ENGINES, "Grader", f"{__name__}:Grader")
    Grader.made.clear()
    return Grader.made


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]

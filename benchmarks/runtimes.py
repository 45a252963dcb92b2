"""Compare CPU runtimes for the embedded engine's model, all-MiniLM-L6-v2.

Speed, nDCG@10, repeatability and start-up time of each. The runtimes take turns inside every
repeat, so that other load on the machine hits all of them; the best repeat counts. The baseline is
`SentenceTransformer.encode` with its defaults. Needs onnx and onnxruntime besides the extra
[embedded].

    python benchmarks/runtimes.py --collection DIR

DIR holds corpus.jsonl, queries.tsv, qrels.txt and runs/bm25.trec.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

from llmrankers_groupwise.data import JsonlPassages, RunFile, read_qrels, read_queries
from llmrankers_groupwise.engines.minilm import MiniLM, load_tokenizer, model_folder
from llmrankers_groupwise.evaluation import evaluate

Encode = Callable[[list[str]], np.ndarray]

DIMENSION = 384
ONNX_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
THREADS = os.cpu_count() or 1


def token_ids(texts: list[str], max_tokens: int) -> list[list[int]]:
    tokenizer = load_tokenizer(model_folder())
    tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def batches(ids: Sequence[Sequence[int]], budget: int, *, equal: bool) -> Iterator[list[int]]:
    """Indices by length, at most `budget` tokens a batch; `equal`: one length a batch."""
    batch: list[int] = []
    for index in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        full = (len(batch) + 1) * len(ids[index]) > budget
        if batch and (full or (equal and len(ids[batch[0]]) != len(ids[index]))):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(ids: Sequence[Sequence[int]], dtype: type[np.integer]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, filled up with zeros to the longest text."""
    lengths = np.array([len(each) for each in ids])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(dtype)
    tokens = np.zeros_like(mask)
    tokens[mask == 1] = np.concatenate([np.asarray(each) for each in ids])
    return tokens, mask


def sentence_transformers(max_tokens: int, work: Path) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    model.max_seq_length = max_tokens
    return lambda texts: np.asarray(model.encode(texts, show_progress_bar=False))


def torch_f32(max_tokens: int, work: Path) -> Encode:
    return torch_batches(max_tokens, "float32")


def torch_bf16(max_tokens: int, work: Path) -> Encode:
    return torch_batches(max_tokens, "bfloat16")


def torch_batches(max_tokens: int, dtype: str) -> Encode:
    """Length-sorted batches of 4,096 tokens, with scaled_dot_product_attention."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(
        model_folder(), attn_implementation="sdpa", dtype=getattr(torch, dtype)
    ).eval()

    @torch.inference_mode()
    def encode(texts: list[str]) -> np.ndarray:
        ids = token_ids(texts, max_tokens)
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        for batch in batches(ids, 4096, equal=False):
            tokens, mask = map(torch.from_numpy, padded([ids[i] for i in batch], np.int64))
            hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return vectors

    return encode


def export_onnx(work: Path) -> None:
    """Write fused.onnx (attention as one node) and int8.onnx to `work`, once."""
    if (work / "int8.onnx").exists():
        return
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import BertModel

    bert = BertModel.from_pretrained(model_folder(), attn_implementation="eager").eval()

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(**dict(zip(ONNX_INPUTS, inputs, strict=True))).last_hidden_state
            mask = inputs[1].unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    tokens = torch.randint(1000, 2000, (2, 16))
    torch.onnx.export(
        Pooled(),
        (tokens, torch.ones_like(tokens), torch.zeros_like(tokens)),
        str(work / "plain.onnx"),
        input_names=list(ONNX_INPUTS),
        output_names=["vectors"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in ONNX_INPUTS},
        opset_version=17,
        dynamo=False,  # the attention that the newer exporter writes is not fused
    )
    fused = optimize_model(str(work / "plain.onnx"), "bert", num_heads=12, hidden_size=DIMENSION)
    fused.save_model_to_file(str(work / "fused.onnx"))
    quantize_dynamic(
        work / "plain.onnx",
        work / "int8.onnx",
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def onnxruntime_f32(max_tokens: int, work: Path) -> Encode:
    return onnxruntime_batches(max_tokens, work, "fused.onnx", 1024)


def onnxruntime_int8(max_tokens: int, work: Path) -> Encode:
    return onnxruntime_batches(max_tokens, work, "int8.onnx", 1)


def onnxruntime_batches(max_tokens: int, work: Path, model: str, budget: int) -> Encode:
    """Equally long texts a run, one thread a run, THREADS runs at a time."""
    import onnxruntime

    export_onnx(work)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(work / model), options)
    dtype = np.int32 if session.get_inputs()[0].type == "tensor(int32)" else np.int64
    pool = ThreadPoolExecutor(THREADS)

    def encode(texts: list[str]) -> np.ndarray:
        ids = token_ids(texts, max_tokens)
        vectors = np.empty((len(texts), DIMENSION), np.float32)

        def run(batch: list[int]) -> None:
            tokens, mask = padded([ids[i] for i in batch], dtype)
            inputs = (tokens, mask, np.zeros_like(tokens))
            vectors[batch] = session.run(None, dict(zip(ONNX_INPUTS, inputs, strict=True)))[0]

        list(pool.map(run, batches(ids, budget, equal=True)))
        return vectors

    return encode


def openvino_f32(max_tokens: int, work: Path) -> Encode:
    model = MiniLM(model_folder(), max_tokens=max_tokens, precision="f32")
    return lambda texts: model.encode(texts)[0]


def openvino_bf16(max_tokens: int, work: Path) -> Encode:
    model = MiniLM(model_folder(), max_tokens=max_tokens, precision="bf16")
    return lambda texts: model.encode(texts)[0]


RUNTIMES: dict[str, Callable[[int, Path], Encode]] = {
    "sentence-transformers, its defaults": sentence_transformers,
    "PyTorch f32, length-sorted": torch_f32,
    "PyTorch bf16, length-sorted": torch_bf16,
    "ONNX Runtime f32, fused attention": onnxruntime_f32,
    "ONNX Runtime int8, dynamic": onnxruntime_int8,
    "OpenVINO f32 (the engine)": openvino_f32,
    "OpenVINO bf16 (precision=bf16)": openvino_bf16,
}


class Collection:
    """A first stage of 100 candidates a query, with its texts."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFile(folder / "runs" / "bm25.trec", 100)
        self.queries = read_queries(folder / "queries.tsv")
        self.qrels = read_qrels(folder / "qrels.txt")
        doc_ids = list(dict.fromkeys(each.doc_id for run in self.run.values() for each in run))
        texts = JsonlPassages(folder / "corpus.jsonl").texts("", doc_ids)
        self.texts = {doc_id: text or "" for doc_id, text in zip(doc_ids, texts, strict=True)}

    def ndcg(self, encode: Encode) -> float:
        """nDCG@10 of the candidates in the order of their cosines."""
        vectors = dict(zip(self.texts, encode(list(self.texts.values())), strict=True))
        asked = dict(zip(self.queries, encode(list(self.queries.values())), strict=True))
        scores = {
            query_id: {
                each.doc_id: float(asked[query_id] @ vectors[each.doc_id]) for each in entries
            }
            for query_id, entries in self.run.items()
        }
        return evaluate(self.qrels, scores, ["nDCG@10"])["nDCG@10"]


def rebatching_difference(encode: Encode, texts: list[str]) -> float:
    """Largest change of a vector's element when the texts come in other calls and order."""
    order = random.Random(0).sample(range(len(texts)), len(texts))
    again = np.empty((len(texts), DIMENSION), np.float32)
    for start in range(0, len(order), 7):
        part = order[start : start + 7]
        again[part] = encode([texts[i] for i in part])
    return float(np.abs(encode(texts) - again).max())


def start_up_seconds(name: str, arguments: argparse.Namespace) -> float:
    """Seconds from the start of a new process to its first vector."""
    command = [
        sys.executable,
        __file__,
        "--collection",
        ".",
        "--first_vector",
        name,
    ]
    started = time.time()
    child = subprocess.run(
        [*command, "--work", str(arguments.work)], check=True, capture_output=True, text=True
    )
    return float(child.stdout.split()[-1]) - started


def measure(arguments: argparse.Namespace) -> None:
    collection = Collection(arguments.collection)
    texts = list(collection.texts.values())
    texts = random.Random(0).sample(texts, min(arguments.passages, len(texts)))
    encoders = {name: make(arguments.max_tokens, arguments.work) for name, make in RUNTIMES.items()}
    best = dict.fromkeys(RUNTIMES, float("inf"))
    for _ in range(arguments.repeats):
        for name, encode in encoders.items():
            started = time.perf_counter()
            encode(texts)
            best[name] = min(best[name], time.perf_counter() - started)
    baseline = best[next(iter(RUNTIMES))]
    packages = ("torch", "sentence-transformers", "onnxruntime", "openvino")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(
        f"{len(texts)} passages of {arguments.collection.name}, best of {arguments.repeats}, ",
        end="",
    )
    print(f"cut to {arguments.max_tokens} tokens; {versions}\n")
    print("| runtime | passages/s | ratio | nDCG@10 | re-batching | start-up, s |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, encode in encoders.items():
        print(
            f"| {name} | {len(texts) / best[name]:.0f} | {baseline / best[name]:.2f} "
            f"| {collection.ndcg(encode):.4f} "
            f"| {rebatching_difference(encode, texts[:100]):.0e} "
            f"| {start_up_seconds(name, arguments):.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--collection", type=Path, required=True, help="folder of the collection")
    parser.add_argument("--passages", type=int, default=1000, help="how many are timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max_tokens", type=int, default=256)
    parser.add_argument("--work", type=Path, help="folder that keeps the exported ONNX models")
    parser.add_argument("--first_vector", choices=RUNTIMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        arguments.work = arguments.work or Path(scratch)
        if arguments.first_vector:
            RUNTIMES[arguments.first_vector](arguments.max_tokens, arguments.work)(["a short text"])
            print(time.time())
        else:
            measure(arguments)


if __name__ == "__main__":
    main()

"""The key-value cache of a batch of token sequences that grow independently.

Nothing in it is ever rebuilt. A row that has less to feed than another is padded on the left, what
must be unlearned is masked out, and positions and windows of attention count what is not masked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmrankers_groupwise.errors import ModelError

__all__ = ["Cache", "cache_argument", "windows_of"]

_KEEPING_TOKENS = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})
# For some, transformers 5.0 has the models' own caches, and takes them for layers of attention.
_REFUSED_LAYERS = frozenset({"chunked_attention", "conv", "linear_attention", "mamba"})
_CACHE_ARGUMENTS = ("cache", "past_key_values")
_KEEPING_NOTHING = "DummyLayer"  # those of Gemma 3n that read another layer's keys and values


def windows_of(network: Any) -> dict[str, int | None]:
    """The kinds of attention that a model's layers have, and how many tokens each looks back.

    Raises:
        ModelError: layers that keep something else than keys and values, in which no token can be
            masked afterwards.
    """
    from transformers import DynamicCache

    config = network.config.get_text_config(decoder=True)
    every: list[Any] = DynamicCache(config=config).layers
    layers = [layer for layer in every if type(layer).__name__ != _KEEPING_NOTHING]
    if (
        getattr(network, "_is_stateful", False)
        or not _REFUSED_LAYERS.isdisjoint(getattr(config, "layer_types", None) or ())
        or not {type(layer).__name__ for layer in layers} <= _KEEPING_TOKENS
    ):
        raise ModelError(
            f"engine transformers reads scores from a cache of keys and values, and models of type "
            f"{config.model_type} keep something else: use engine vllm"
        )
    return {
        "sliding_attention" if layer.is_sliding else "full_attention": getattr(
            layer, "sliding_window", None
        )
        for layer in layers
    }


def cache_argument(network: Any) -> str:
    """The argument of a model's forward that takes a cache: transformers is renaming it.

    Raises:
        ModelError: there is none.
    """
    accepted = _forward_parameters(network)
    for name in _CACHE_ARGUMENTS:
        if name in accepted:
            return name
    raise ModelError(
        f"engine transformers gives a model a cache of keys and values, and "
        f"{type(network).__name__} takes neither {' nor '.join(_CACHE_ARGUMENTS)}: use engine vllm"
    )


def _forward_parameters(network: Any) -> Mapping[str, inspect.Parameter]:
    """What a model's forward takes: its class's, as trainers put another on the model.

    The wrapper that peft puts around a model hides it, too.
    """
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    return inspect.signature(type(inner).forward).parameters


class Cache:
    """The cache, and which of its columns each row sees.

    Args:
        network: a causal language model of transformers.
        rows: how many sequences.
    """

    def __init__(self, network: Any, rows: int) -> None:
        from transformers import DynamicCache

        self._network = network
        windows = windows_of(network)
        kind = network.config.get_text_config(decoder=True)._attn_implementation
        # Other implementations drop what is masked before they count.
        self._windows = windows if any(windows.values()) and kind in ("sdpa", "eager") else {}
        self._mask_type = torch.bool if kind == "sdpa" else network.dtype
        # With a window in it, a cache forgets columns, whoever has fed padding in them.
        config = None if any(windows.values()) else network.config
        self._cache = DynamicCache(config=config)
        accepted = _forward_parameters(network)
        self._cache_argument = cache_argument(network)
        self._keeps_logits = "logits_to_keep" in accepted
        self._takes_positions = "position_ids" in accepted
        device = network.get_input_embeddings().weight.device
        self._mask = torch.zeros((rows, 0), dtype=torch.long, device=device)
        self._columns: list[list[int]] = [[] for _ in range(rows)]

    def feed(self, rows: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Logits after the last `keep` tokens of each row: float32, (rows, keep, vocabulary)."""
        width = max(keep, *map(len, rows))
        start = self._mask.shape[1]
        ids = [[0] * (width - len(row)) + list(row) for row in rows]
        seen = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        device = self._mask.device
        self._mask = torch.cat((self._mask, torch.tensor(seen, device=device)), dim=1)
        more: dict[str, Any] = {}
        if self._keeps_logits:
            more["logits_to_keep"] = keep
        if self._takes_positions:
            positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
            more["position_ids"] = positions[:, start:]
        output = self._network(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=self._masks(width),
            use_cache=True,
            **{self._cache_argument: self._cache},
            **more,
        )
        for columns, row in zip(self._columns, rows, strict=True):
            columns.extend(range(start + width - len(row), start + width))
        logits: torch.Tensor = output.logits[:, -keep:].float()
        return logits

    def forget(self, index: int, count: int) -> None:
        """Mask the last `count` tokens that a row was fed."""
        if count:
            columns = self._columns[index]
            self._mask[index, columns[-count:]] = 0
            del columns[-count:]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows only."""
        chosen = torch.tensor(rows)  # on the CPU: layers may be on several devices
        self._cache.batch_select_indices(chosen)
        self._mask = self._mask[chosen]
        self._columns = [self._columns[row] for row in rows]

    def _masks(self, width: int) -> Any:
        """What the last `width` columns see, for a model that has windows one mask of each kind.

        Left to itself, such a model counts columns, masked ones too.
        """
        if not self._windows:
            return self._mask
        order = torch.arange(self._mask.shape[1], device=self._mask.device)
        full = self._mask.bool()[:, None] & (order <= order[-width:, None])
        positions = self._mask.cumsum(dim=1)
        masks = {}
        for kind, window in self._windows.items():
            seen = full
            if window is not None:
                seen = full & (positions[:, None] > positions[:, -width:, None] - window)
            masks[kind] = self._as_mask(seen[:, None])
        return masks if len(masks) > 1 else masks.popitem()[1]

    def _as_mask(self, seen: torch.Tensor) -> torch.Tensor:
        if self._mask_type == torch.bool:
            return seen
        hidden = torch.finfo(self._mask_type).min
        return torch.zeros(seen.shape, dtype=self._mask_type, device=seen.device).masked_fill(
            ~seen, hidden
        )

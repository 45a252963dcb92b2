"""The transformers engine with a model that is in memory already, such as one in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.llm.prompt_builder import CHAT_ARGS, PromptBuilder
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.engines.transformers.engine import TransformersEngine

if TYPE_CHECKING:
    from llmrankers_groupwise.engines.transformers.decoding import Model

__all__ = ["LoadedEngine"]


class LoadedEngine(TransformersEngine):
    """Answers with a model as it is at the moment; closing the engine leaves the model alone.

    Args:
        network: a causal language model of transformers, where it is and in its precision. It is
            used in its evaluation mode, which is the caller's to set.
        tokenizer: the model's, with its chat template.
    """

    def __init__(self, network: Any, tokenizer: ChatTokenizer) -> None:
        super().__init__(EngineSettings(model_name_or_path=str(network.config.name_or_path)))
        self._network = network
        self._prompter: PromptBuilder = _LoadedPromptBuilder(network, tokenizer)

    def _load(self) -> Model:
        from llmrankers_groupwise.engines.transformers.cache import windows_of
        from llmrankers_groupwise.engines.transformers.decoding import Model
        from llmrankers_groupwise.engines.transformers.form_tokens import FormTokens
        from llmrankers_groupwise.engines.transformers.loading import end_tokens

        tokenizer = self._prompter.tokenizer
        windows_of(self._network)  # raises if decoding cannot be done with it
        ends = end_tokens(self._network, tokenizer)
        return Model(self._network, tokenizer, ends, FormTokens(tokenizer))


class _LoadedPromptBuilder(PromptBuilder):
    """Makes prompts by a tokenizer that is in memory already."""

    def __init__(self, network: Any, tokenizer: ChatTokenizer) -> None:
        self._given = network, tokenizer
        super().__init__(EngineSettings(), CHAT_ARGS)

    def _load_tokenizer(self) -> ChatTokenizer:
        return self._given[1]

    def _find_model_length(self) -> int | None:
        config = self._given[0].config.get_text_config(decoder=True)
        positions = getattr(config, "max_position_embeddings", None)
        return positions if isinstance(positions, int) else None

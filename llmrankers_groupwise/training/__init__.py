"""Training rerankers: data, SFT, GRPO. Importing it needs neither PyTorch nor TRL."""

from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.pools import PoolSettings
from llmrankers_groupwise.training.data.synthesis import Synthesis
from llmrankers_groupwise.training.data.teachers import Teacher
from llmrankers_groupwise.training.finetuning.grpo import grpo
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.finetuning.settings import GrpoSettings, SftSettings
from llmrankers_groupwise.training.finetuning.sft import sft

__all__ = [
    "GrpoSettings",
    "HeldOut",
    "ListSettings",
    "PoolSettings",
    "SftSettings",
    "Synthesis",
    "Teacher",
    "grpo",
    "sft",
]

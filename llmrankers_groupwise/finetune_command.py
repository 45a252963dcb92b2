"""The command `run-groupwise train finetune`."""

from __future__ import annotations

import argparse

__all__ = ["add_finetune_options", "run_finetune"]


def add_finetune_options(parser: argparse.ArgumentParser) -> None:
    """Add its options."""


def run_finetune(arguments: argparse.Namespace) -> None:
    """Do what it says."""
    raise NotImplementedError

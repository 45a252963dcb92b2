"""The command `run-groupwise train inspect`."""

from __future__ import annotations

import argparse

__all__ = ["add_inspect_options", "run_inspect"]


def add_inspect_options(parser: argparse.ArgumentParser) -> None:
    """Add its options."""


def run_inspect(arguments: argparse.Namespace) -> None:
    """Do what it says."""
    raise NotImplementedError

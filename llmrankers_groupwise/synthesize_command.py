"""The command `run-groupwise train synthesize`."""

from __future__ import annotations

import argparse

__all__ = ["add_synthesize_options", "run_synthesize"]


def add_synthesize_options(parser: argparse.ArgumentParser) -> None:
    """Add its options."""


def run_synthesize(arguments: argparse.Namespace) -> None:
    """Do what it says."""
    raise NotImplementedError

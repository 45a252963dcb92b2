"""The command `run-groupwise`: one file for each of its commands."""

from llmrankers_groupwise.cli.main import command, main

__all__ = ["command", "main"]

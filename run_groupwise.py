"""The experiment script; `run-groupwise` is the same, installed."""

import sys

from llmrankers_groupwise.cli import command

if __name__ == "__main__":
    sys.exit(command())

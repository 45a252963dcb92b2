"""`python -m llmrankers_groupwise`, as `run-groupwise`."""

import sys

from llmrankers_groupwise.cli import command

if __name__ == "__main__":
    sys.exit(command())

"""The command `run-groupwise`: llm-rankers' grammar, `run OPTIONS... groupwise OPTIONS...`.

Each of its commands is in a module of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import NoReturn, TextIO

from llmrankers_groupwise.cli.common.config import to_yaml
from llmrankers_groupwise.cli.parser import COMMANDS, parse_arguments
from llmrankers_groupwise.errors import GroupwiseError, InputError

__all__ = ["command", "main"]

logger = logging.getLogger(__name__)

_OF_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def command() -> int:
    """Run the command as a process of its own, and return its exit code.

    What other packages warn their developers of is logged at debug level, which --verbose shows;
    the processes that the command starts keep quiet about it. Options of Python that choose what
    to do with warnings come first. `main`, and the package as a library, change nothing of it.
    """
    if not sys.warnoptions:
        _log_deprecations()
    return main()


def _log_deprecations() -> None:
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, _OF_DEVELOPERS):
            logger.debug("%s:%d: %s: %s", filename, lineno, category.__name__, message)
        else:
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    for each in _OF_DEVELOPERS:
        warnings.simplefilter("default", each)
    os.environ["PYTHONWARNINGS"] = ",".join(f"ignore::{each.__name__}" for each in _OF_DEVELOPERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 when a run failed; 2 for bad input; 130 when interrupted. Ended by
        SIGTERM it is 143.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    command = ""
    try:
        arguments = parse_arguments(argv)
        command = arguments.command
        if getattr(arguments, "print_config", False):
            print(to_yaml(arguments.resolved))
            return 0
        _, run = COMMANDS[command]
        with _ended_in_order():
            run(arguments)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, ImportError) as error:
        print(f"run-groupwise: {error}", file=sys.stderr)
        return 2
    except (GroupwiseError, OSError) as error:
        print(f"run-groupwise: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        written = "; no run file was written" if command == "run" else ""
        print(f"run-groupwise: interrupted{written}", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, as of a cluster's time limit, end the run as an exit does: files removed."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

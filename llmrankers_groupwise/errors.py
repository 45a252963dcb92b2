"""The exceptions of this package.

GroupwiseError
├── InputError (ValueError)         bad input that the caller can fix; the command exits with 2
│   ├── SettingsError               a setting is out of its range, or two settings contradict
│   ├── PromptError                 a prompt file cannot be used
│   └── FileError                   a run, query, corpus, qrels or candidates file is malformed
├── MissingDependencyError (ImportError)   an optional part is not installed; names the pip line
├── DownloadError                   a published file could not be fetched as it should be
├── JournalError                    a journal cannot be read or written
│   └── NoJournalError (InputError) there is none where one is named
├── EngineError                     an engine could not answer one request
├── ModelError                      an engine's model cannot be used at all
└── FailureRateError                more groups failed than the run allows
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "DownloadError",
    "EngineError",
    "FailureRateError",
    "FileError",
    "GroupwiseError",
    "InputError",
    "JournalError",
    "MissingDependencyError",
    "ModelError",
    "NoJournalError",
    "PromptError",
    "SettingsError",
]


class GroupwiseError(Exception):
    """Base class of everything this package raises on purpose."""


class InputError(GroupwiseError, ValueError):
    """Input that the caller can fix: the message has what, where and what to do."""


class SettingsError(InputError):
    """A setting is out of its range, or two settings contradict each other."""


class PromptError(InputError):
    """A prompt file cannot be read, or a key or placeholder of it is wrong."""


class FileError(InputError):
    """A data file is missing or malformed.

    Args:
        message: what is wrong, and what to do.
        path: the file.
        line: the 1-based line, where one line is to blame.
    """

    def __init__(self, message: str, path: str | Path, line: int | None = None) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {message}")
        self.path = Path(path)
        self.line = line

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is made anew of its one text, which this class does not take.
        return Exception.__new__, (type(self), *self.args), self.__dict__


class MissingDependencyError(GroupwiseError, ImportError):
    """An optional dependency is not installed; the message names the pip line that brings it.

    Args:
        problem: what needs it, or the whole message.
        extra: the extra of this package that brings it.
    """

    def __init__(self, problem: str, extra: str | None = None) -> None:
        if extra is not None:
            problem += (
                f": pip install 'llmrankers-groupwise[{extra}]', or in a checkout "
                f"pip install '.[{extra}]' -c constraints.txt"
            )
        super().__init__(problem)


class DownloadError(GroupwiseError):
    """A published file could not be fetched, or is not the one that was expected."""


class JournalError(GroupwiseError):
    """A journal is damaged, in use by another run, or cannot be written."""


class NoJournalError(JournalError, InputError):
    """There is no journal where one is named."""


class EngineError(GroupwiseError):
    """An engine could not answer one request; the other requests go on.

    Args:
        message: what happened.
        retryable: whether asking again could help.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class ModelError(GroupwiseError):
    """An engine's model cannot be loaded or run, so that no request can be answered."""


class FailureRateError(GroupwiseError):
    """Too many groups failed: the ranking would only pretend to be a reranking."""

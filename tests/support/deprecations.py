"""`pytest --deprecations`: what is deprecated is listed at the end instead of failing the tests."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any
from warnings import WarningMessage

KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
LOGGERS = (None, "openai", "ray", "transformers", "trl", "vllm")  # None is the root
REMOVAL = re.compile(
    r"(?:remov|drop|unsupported|error|stop|default|until|as of)\D{0,80}?"
    r"(\d+(?:\.\d+)+\w*|v\d+|20\d\d-\d\d)",
    re.IGNORECASE,
)


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--deprecations", action="store_true", help="list deprecations instead of failing by them"
    )


def pytest_configure(config: Any) -> None:
    if config.getoption("--deprecations"):
        for kind in KINDS:
            config.addinivalue_line("filterwarnings", f"default::{kind.__name__}")
        config.pluginmanager.register(Deprecations())


@dataclass
class Deprecations(logging.Handler):
    """Collects warnings of deprecation and what loggers say of it, and prints a line for each."""

    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)
    test: str = "collection"

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    __hash__ = logging.Handler.__hash__

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid

    def pytest_warning_recorded(self, warning_message: WarningMessage, nodeid: str) -> None:
        if issubclass(warning_message.category, KINDS):
            self._note(warned_from(warning_message.filename), str(warning_message.message), nodeid)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "deprecat" in text.lower():
            self._note(warned_from(record.pathname), text, self.test)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("deprecations")
        for (origin, text), times in sorted(self.times.items()):
            gone = ", ".join(dict.fromkeys(REMOVAL.findall(text))) or "not said"
            terminalreporter.line(f"{origin}: {text}")
            terminalreporter.line(
                f"    breaks in: {gone}; {times} times, first in {self.first[origin, text]}"
            )
        terminalreporter.line(f"{len(self.times)} different deprecations")

    def _note(self, origin: str, text: str, test: str) -> None:
        key = origin, " ".join(text.split())
        self.times[key] += 1
        self.first.setdefault(key, test or self.test)


def warned_from(filename: str) -> str:
    """The package with its version that a file is in; the file's name where it is in none."""
    parts = Path(filename).parts
    if "site-packages" not in parts:
        return Path(filename).name
    module = parts[parts.index("site-packages") + 1].removesuffix(".py")
    try:
        distribution = packages_distributions().get(module, [module])[0]
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return module

"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections and recordings; tests that need it are skipped without."""
    folder = Path(os.environ.get("GROUPWISE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "collections").is_dir():
        pytest.skip(f"no collections at {folder}: set GROUPWISE_SHARED")
    return folder

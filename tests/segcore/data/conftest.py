"""The drawn data set, for reading alone."""

from pathlib import Path

import pytest
from tiny import make_dataset


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Its folder; `tiny.yaml` in it is the catalogue file."""
    folder = tmp_path_factory.mktemp("tiny")
    make_dataset(folder)
    return folder

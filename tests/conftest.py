"""Fixtures that every test may use."""

import logging
import os
from pathlib import Path

import gpu_stand_in
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def offline():
    """No test fetches weights, nor any program that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGCORE_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True)
def log_as_it_was():
    """A program that a test runs in this process sets up the log; the next test does not see it."""
    log = logging.getLogger()
    log.setLevel(logging.WARNING)  # fixtures of a whole file run programs too
    logging.disable(logging.NOTSET)
    handlers = list(log.handlers)
    yield
    for handler in set(log.handlers) - set(handlers):
        handler.close()
    log.handlers[:] = handlers


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images with ground truth, beside the project; tests skip where they are missing."""
    folder = Path(os.environ.get("SEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set SEG_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers recorded from the published programs, beside the project; tests skip without."""
    folder = ROOT.parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"no recorded numbers at {folder}")
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that stands in for a GPU, for `gpu_stand_in.run`; tests skip where it is none."""
    if reason := gpu_stand_in.skip_reason():
        pytest.skip(reason)
    return gpu_stand_in.build(tmp_path_factory.mktemp("gpu"))

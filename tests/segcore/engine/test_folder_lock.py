"""One run in a folder at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from segcore.engine.folder_lock import only_run_in
from segcore.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from segcore.engine.folder_lock import only_run_in
with only_run_in(Path({folder!r}), "OUTPUT_DIR"):
    child = {child}
    print("held", flush=True)
    sys.stdin.read()
"""
FORKED = "__import__('os').fork() or __import__('time').sleep(30)"  # as a loader's worker


@pytest.fixture
def holder(tmp_path, root):
    """Starts another process that is at work in the folder."""
    running = []

    def start(child="None"):
        code = HOLDER.format(folder=str(tmp_path), child=child)
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_run_raises_until_the_first_ends(tmp_path, holder):
    first = holder()
    with (
        pytest.raises(ConfigError, match=rf"OUTPUT_DIR .*process {first.pid} on .*name another"),
        only_run_in(tmp_path, "OUTPUT_DIR"),
    ):
        pass
    first.stdin.close()
    assert first.wait() == 0
    assert not list(tmp_path.iterdir())
    with only_run_in(tmp_path, "OUTPUT_DIR"):
        assert f"process {os.getpid()} " in (tmp_path / "in_use.lock").read_text()
    assert not list(tmp_path.iterdir())


def test_a_kill_frees_the_folder_at_once_whatever_it_had_forked(tmp_path, holder):
    first = holder(FORKED)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with only_run_in(tmp_path, "OUTPUT_DIR"):
        pass


def test_an_error_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), only_run_in(tmp_path / "new", "OUTPUT_DIR"):
        raise KeyError
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_without_locks_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with only_run_in(tmp_path, "OUTPUT_DIR"):
        pass
    assert "cannot be locked" in caplog.text
    assert not list(tmp_path.iterdir())

"""Signals after OpenVINO was used: its plugin must not leave a thread a freed stack for them."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from segcore.export import openvino_file

TWO_READ_FILES_AND_A_SIGNAL = """
import os, signal, sys
from pathlib import Path
from segcore.export.openvino_file import read

first, second = (read(Path(sys.argv[1])) for _ in range(2))
del first
del second
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


class SignalStack(ctypes.Structure):
    """stack_t of <signal.h>."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack():
    """Where this thread's signals have their stack, and how large it is."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.start, stack.size


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A product of two numbers with two others, and what a file of ours says beside."""
    openvino = pytest.importorskip("openvino")
    path = tmp_path_factory.mktemp("signals") / "model.xml"
    operators = openvino.opset13
    given = [operators.parameter([1, 2], np.float32, name=name) for name in ("pixels", "sizes")]
    product = operators.matmul(operators.add(*given), np.eye(2, dtype=np.float32), False, False)
    openvino_file.save(openvino.Model([product], given, "model"), path, {"outputs": ["product"]})
    return path


def test_a_read_file_leaves_the_thread_its_stack_for_signals(file):
    before = signal_stack()
    opened = openvino_file.read(file)
    assert signal_stack() == before
    ones = np.ones((1, 2), np.float32)
    assert (opened.run(ones, ones)["product"] == 2).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the signals are POSIX's, the fault Linux's")
def test_a_signal_after_two_read_files_are_gone_is_handled(file):
    ended = subprocess.run(
        [sys.executable, "-c", TWO_READ_FILES_AND_A_SIGNAL, str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr

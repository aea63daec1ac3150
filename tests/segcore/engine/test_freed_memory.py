"""Freed memory stays with a process that asks for it."""

import platform
import subprocess
import sys

import pytest

from segcore.engine.memory import keep_freed_memory, return_freed_memory

SCRIPT = """
import resource, torch
from segcore.engine.memory import keep_freed_memory
assert keep_freed_memory()
for i in range(8):
    if i == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    several = [torch.ones(5 << 20) for _ in range(6)]  # 20 MB each
    del several
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

RETURNED = """
import os
from segcore.engine.memory import keep_freed_memory, return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

assert keep_freed_memory()
blocks = [b"x" * (1 << 20) for _ in range(200)]
last = b"y" * 1000  # behind them, in use
del blocks
kept = resident()
assert return_freed_memory()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_returned_when_asked(root):
    command = [sys.executable, "-c", RETURNED]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env={})
    assert int(done.stdout) > 180  # MB of 200


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again(root):
    """Without it, it depends on where small things lie whether 120,000 pages are fetched anew."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env={})
    assert int(done.stdout) < 20_000  # pages of 4 KB


def test_what_the_user_says_of_malloc_holds(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory() and not return_freed_memory()

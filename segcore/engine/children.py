"""The processes of a machine's other GPUs: started by the first one, and watched."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import __main__

logger = logging.getLogger(__name__)

GRACE = 60.0  # seconds in which a process may end by itself after another one failed


class Children:
    """This program anew for local ranks 1, 2, ..., which find theirs in LOCAL_RANK.

    Where one of them fails, the first one ends too: by an error of its own, or, where it waits for
    the lost one for ever, after `GRACE`. None outlives the first one by more than that.
    """

    def __init__(self, count: int) -> None:
        self.rescue: Callable[[], None] | None = None  # called before the first one is ended
        self._one_at_a_time = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, count):
            environment = os.environ | {"LOCAL_RANK": str(rank)}
            self._processes.append(subprocess.Popen(_command(), env=environment))
            threading.Thread(
                target=self._watch, args=(rank, self._processes[-1]), daemon=True
            ).start()
        atexit.register(self._wait)

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if code == 0:
            return
        with self._one_at_a_time:
            logger.error(
                "process %d of this machine ended with %s; if it said why, that is above",
                rank,
                f"exit code {code}" if code > 0 else f"signal {-code}",
            )
            time.sleep(GRACE)  # a daemon: it does not hold up an end
            if self.rescue:
                self.rescue()
            logger.error("this process waits for the lost one: ended; go on with --resume")
            for other in self._processes:
                other.kill()
            logging.shutdown()
            os._exit(1)  # the main thread cannot be reached: it waits inside of a collective

    def _wait(self) -> None:
        """At this program's end."""
        last = time.monotonic() + GRACE
        for process in self._processes:
            try:
                process.wait(max(0.0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def end_with_parent(period: float = 0.5) -> None:
    """Let this process have a SIGTERM when the one that started it is gone, however it ended.

    Args:
        period: seconds between two looks.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(period)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _command() -> list[str]:
    spec = getattr(__main__, "__spec__", None)
    program = [str(Path(sys.argv[0]).absolute())] if spec is None else ["-m", spec.name]
    return [sys.executable, *program, *sys.argv[1:]]

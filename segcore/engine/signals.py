"""SIGTERM and Ctrl-C as a request that the loop answers when a step is done."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

WATCHED = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Within `with`, the first signal is noted in `caught`; a second one acts as it always did."""

    def __init__(self) -> None:
        self.caught = 0
        self._old: dict[signal.Signals, Any] = {}
        self._owner = 0

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._owner = os.getpid()
            self._old = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked loader worker; its parent ends it
        if self.caught:
            self._restore()
            signal.raise_signal(number)
        self.caught = number
        name = signal.Signals(number).name
        with suppress(OSError):  # straight to the terminal: a handler may interrupt a log line
            os.write(2, f"\n{name}: stopping after this step; once more ends at once\n".encode())

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

"""A file from the network into a folder: whole and checked, or not there at all.

What has come of a file lies beside it as NAME.part and is gone on with, by this process or a later
one, as long as the server says (by ETag or date) that the file is still the same.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segcore.engine.fetched_file import Digest, damage
from segcore.engine.transfer import BROKEN, MissingFileError, Transfer, check_address
from segcore.errors import WeightsError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a slow or broken connection is borne.

    Args:
        timeout: seconds without a byte.
        attempts: in a row that bring nothing new.
        pause: seconds before the second attempt; twice as many before each later one.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0


def fetch(
    url: str,
    goal: Path,
    *,
    digest: Digest | None = None,
    token: str = "",
    patience: Patience | None = None,
) -> Path:
    """Bring the file at `url` to `goal` unless it is there; another process's work is waited for.

    Args:
        url: https, or http on this machine.
        digest: of the file; checked when all of it has come.
        token: sent to the URL's own host only, as a bearer's.

    Raises:
        MissingFileError: the server has no such file.
        WeightsError: anything else that keeps the file from being there, whole.
    """
    check_address(url)
    if goal.is_file():
        return goal
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(goal) as part:
            if not goal.is_file():  # another process may have brought it
                logger.info("%s is fetched to %s", url, goal)
                transfer = Transfer(url, part, token, digest=digest)
                _bring(transfer, goal.name, patience or Patience())
                os.replace(part, goal)
                transfer.forget()
    except MissingFileError:
        raise
    except WeightsError as error:
        raise WeightsError(f"{error}; or {by_hand(url, goal)}") from error
    except OSError as error:
        raise WeightsError(
            f"{goal}: cannot be written ({error}); free some disk space, or set SEGCORE_WEIGHTS to"
            " a folder that can be written"
        ) from error
    return goal


def by_hand(url: str, goal: Path) -> str:
    """What to do where a file cannot be fetched."""
    return (
        f"download {url} and put it at {goal} (or set SEGCORE_WEIGHTS to your folder), or start"
        " from scratch with MODEL.WEIGHTS ''"
    )


def _bring(transfer: Transfer, name: str, patience: Patience) -> None:
    """All of a file, in as many attempts as it takes, checked."""
    most, idle = 0, 0  # bytes that were there at best; attempts since then
    while True:
        try:
            transfer.receive(patience.timeout)
            break
        except BROKEN as error:
            have, reason = transfer.have(), str(error) or type(error).__name__
            most, idle = max(most, have), 0 if have > most else idle + 1
            if idle >= patience.attempts:
                raise WeightsError(
                    f"{transfer.url}: {reason}; given up after {idle} attempts that brought nothing"
                    f" new; the {have} bytes that have come are kept: try again to go on"
                ) from error
            logger.warning("%s: %s; trying again", name, reason)
            time.sleep(patience.pause * 2 ** max(0, idle - 1))
    trouble = damage(transfer.part, name, size=transfer.size, digest=transfer.digest)
    if trouble:
        transfer.forget()
        raise WeightsError(f"{transfer.url}: {trouble}; nothing of it was kept; try again")


@contextmanager
def _part_of(goal: Path) -> Iterator[Path]:
    """The path of the half file, this process's alone until the end.

    Where the file system has no locks, each process has a half file of its own, used once.
    """
    lock = goal.with_name(goal.name + ".lock")
    with lock.open("w") as stream:
        shared = _locked(stream, goal)
        own = "" if shared else f".{os.getpid()}-{secrets.token_hex(4)}"
        part = goal.with_name(f"{goal.name}{own}.part")
        try:
            yield part
        finally:
            if not shared:
                Transfer("", part).forget()
        if goal.is_file():  # from now on nobody needs the lock
            lock.unlink(missing_ok=True)


def _locked(stream: IO[str], goal: Path) -> bool:
    """Wait for the lock on an open file; False where there are no locks."""
    if fcntl is None:
        return False
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process is fetching it; waiting", goal.name)
            fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        logger.info("%s: no locks on this file system (%s)", goal.parent, error)
        return False
    return True

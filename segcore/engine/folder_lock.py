"""One run in a folder at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segcore.errors import ConfigError

logger = logging.getLogger(__name__)

NAME = "in_use.lock"


@contextmanager
def only_run_in(folder: Path, key: str) -> Iterator[None]:
    """Nobody else's run is in the folder meanwhile; ConfigError where one is.

    The kernel holds the lock and releases it when this process ends, however it ends. It is not
    inherited: what this process has started may outlive it. The file is gone afterwards.

    Args:
        folder: is made.
        key: of the config, or the flag, that names it; for errors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder / NAME, key)
    if file is None:
        yield
        return
    try:
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)  # while it is ours
        file.close()


def _locked(path: Path, key: str) -> IO[str] | None:
    """The open file; None where the disk knows no locks."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # both mean that somebody has it
            file.seek(0)
            owner = file.read(200).strip() or "unknown"
            file.close()
            raise ConfigError(
                f"{key} {path.parent}: another run is at work there ({owner}), and each would"
                f" replace the other's files; wait for its end, stop it, or name another {key}"
            ) from None
        except OSError as error:
            file.close()
            logger.warning("%s cannot be locked (%s): start no second run there", path, error)
            path.unlink(missing_ok=True)
            return None
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            break
        file.close()  # its owner removed it between our opening and locking
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file

"""Checkpoints that survive: written aside and renamed, with all that an exact resume needs."""

from __future__ import annotations

import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.engine.weights import read_checkpoint
from segcore.errors import WeightsError

logger = logging.getLogger(__name__)


def save_atomic(content: dict[str, Any], path: Path) -> None:
    """Write the whole file or none: an interrupted or failed save leaves the old one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer has RuntimeError for a full disk
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path}: could not be written ({error}); free some disk space or choose another"
            " OUTPUT_DIR; earlier checkpoints are untouched"
        ) from error


def rng_state() -> dict[str, Any]:
    """Of torch, CUDA, numpy and Python, as plain values."""
    name, keys, place, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss],
        "numpy_gauss": cached,
        "python": [version, list(words), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """The inverse of `rng_state`."""
    torch.set_rng_state(state["torch"])
    name, keys, place, has_gauss = state["numpy"]
    np.random.set_state(
        (name, keys.numpy().astype(np.uint32), place, has_gauss, state["numpy_gauss"])
    )
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run, under detectron2's file names.

    Args:
        keep: how many numbered ones stay; the last of them is what --resume reads.
    """

    folder: Path
    keep: int = 3

    def save(self, content: dict[str, Any], name: str) -> None:
        """Write `name`.pth, make it the last, and drop old numbered ones."""
        for left in self.folder.glob("model_*.pth.tmp"):  # by a run that was killed while saving
            left.unlink(missing_ok=True)
        save_atomic(content, self.folder / f"{name}.pth")
        pointer = self.folder / "last_checkpoint.tmp"
        pointer.write_text(f"{name}.pth")
        os.replace(pointer, self.folder / "last_checkpoint")
        for old in self.numbered()[: -self.keep]:
            old.unlink(missing_ok=True)

    def numbered(self) -> list[Path]:
        """model_0000099.pth ..., oldest first."""
        return sorted(self.folder.glob("model_[0-9]*.pth"))

    def last(self) -> dict[str, Any] | None:
        """The newest that can be read, None where there is none at all.

        A damaged one is passed over with a warning; if all are damaged, that is an error: to start
        anew in their place would be no resume.
        """
        pointer = self.folder / "last_checkpoint"
        named = [self.folder / pointer.read_text().strip()] if pointer.exists() else []
        tried = list(dict.fromkeys([*named, *reversed(self.numbered())]))
        for path in tried:
            try:
                return read_checkpoint(path)
            except WeightsError as error:
                logger.warning("passed over: %s", error)
        if tried:
            raise WeightsError(
                f"{self.folder}: none of {', '.join(p.name for p in tried)} can be read; start anew"
                " without --resume, in another OUTPUT_DIR"
            )
        return None

"""Checkpoints that survive: written aside and renamed, with all that an exact resume needs."""

from __future__ import annotations

import logging
import os
import random
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.engine import best
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.save_atomic import save_atomic
from segcore.errors import WeightsError
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)


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
        state["cuda"] = torch.cuda.get_rng_state()  # of the GPU in use: others may be gone later
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
        cuda = state["cuda"]
        if isinstance(cuda, list):  # of every GPU of the machine, as in version 1 of checkpoints
            cuda = cuda[min(torch.cuda.current_device(), len(cuda) - 1)]
        torch.cuda.set_rng_state(cuda)


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
        with whole_file(self.folder / "last_checkpoint", "w") as pointer:
            pointer.write(f"{name}.pth")
        for old in self._until(name)[: -self.keep]:
            old.unlink(missing_ok=True)

    def save_best(self, content: dict[str, Any]) -> None:
        """Write model_best.pth, which no resume reads; the old one stays where that fails."""
        save_atomic(content, self.folder / f"{best.WEIGHTS}.pth")

    def set_aside(self) -> None:
        """For a new run: what an earlier one left goes to `earlier-1`, or --resume would mix them.

        Nothing is deleted: it may have been the wrong folder, or --resume may have been forgotten.
        """
        names = ("model_*.pth", "last_checkpoint", best.FILE)
        left = [file for name in names for file in sorted(self.folder.glob(name))]
        if not left:
            return
        number = next(n for n in count(1) if not (self.folder / f"earlier-{n}").exists())
        goal = self.folder / f"earlier-{number}"
        goal.mkdir()
        for file in left:
            os.replace(file, goal / file.name)
        logger.warning(
            "%s had checkpoints of an earlier run: moved to %s; --resume would have gone on with"
            " them", self.folder, goal,
        )  # fmt: skip

    def numbered(self) -> list[Path]:
        """model_0000099.pth ..., oldest first."""
        return sorted(self.folder.glob("model_[0-9]*.pth"))

    def _until(self, name: str) -> list[Path]:
        """Those up to `name`: newer ones are of a run that was given up. model_final is last."""
        return [path for path in self.numbered() if path.stem <= name]

    def last(self) -> dict[str, Any] | None:
        """The newest of this run that can be read, None where there is none at all.

        A damaged one is passed over with a warning; if all are damaged, that is an error: to start
        anew in their place would be no resume.
        """
        pointer = self.folder / "last_checkpoint"
        text = pointer.read_text(encoding="utf-8") if pointer.exists() else ""
        newest = text.strip().removesuffix(".pth")
        named = [self.folder / f"{newest}.pth"] if newest else []
        older = self._until(newest) if newest else self.numbered()
        tried = list(dict.fromkeys([*named, *reversed(older)]))
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

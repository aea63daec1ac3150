"""What happens when a loss stops being a number."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from segcore.engine.save_atomic import save_atomic
from segcore.errors import NonFiniteError
from segcore.structures import Batch

logger = logging.getLogger(__name__)

WHAT_TO_DO = (
    "lower SOLVER.BASE_LR or lengthen SOLVER.WARMUP_ITERS, set SOLVER.CLIP_GRADIENTS.ENABLED True,"
    " or train with SOLVER.AMP.PRECISION fp32; earlier checkpoints are untouched: --resume goes on"
    " from the last one"
)


def check_finite(
    values: dict[str, float], iteration: int, batches: list[Batch], folder: Path | None, rank: int
) -> None:
    """Raise if a value is not finite, with the batch saved in `folder`.

    Args:
        values: by loss name ("loss_mask_3": of layer 3, no number: of the last), and `grad_norm`.
    """
    bad = {k: v for k, v in values.items() if not math.isfinite(v)}
    if not bad:
        return
    first = ", ".join(f"{name} = {value}" for name, value in list(bad.items())[:4])
    images = [record.id for batch in batches for record in batch.records]
    saved = _save_batches(batches, bad, iteration, folder, rank)
    raise NonFiniteError(
        f"iteration {iteration}: {first} ({len(bad)} of {len(values)} values are not finite),"
        f" images {images}{saved}; {WHAT_TO_DO}"
    )


def _save_batches(
    batches: list[Batch], bad: dict[str, float], iteration: int, folder: Path | None, rank: int
) -> str:
    """Write the batches as plain tensors; where they are, or "" where that was impossible."""
    if folder is None:
        return ""
    path = folder / (f"nonfinite_batch_rank{rank}.pt" if rank else "nonfinite_batch.pt")
    content = {
        "iteration": iteration,
        "losses": bad,
        "batches": [
            {
                "ids": [record.id for record in batch.records],
                "files": [str(record.frames[0].file) for record in batch.records],
                "images": batch.images.cpu(),
                "sizes": batch.sizes,
                "labels": [target.labels.cpu() for target in batch.targets],
                "masks": [target.masks.cpu() for target in batch.targets],
            }
            for batch in batches
        ],
    }
    try:
        save_atomic(content, path)
    except OSError as error:
        logger.warning("%s", error)
        return ""
    return f"; the batch is in {path}"

"""How the network is trained in the time there is: precision, batches, steps, rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segcore.plan.decision import Decision
from segcore.plan.facts import DataFacts, Machine, Measured

GAIN = 0.95  # of the seconds of a step, from which on mixed precision is worth it
FULL = 0.8  # share of the memory that a plan may take
FEW_STEPS = 800  # below which smaller batches teach more
SMALLEST_BATCH = 2
MOST_EPOCHS = 300
FEWEST_STEPS = 20
START = 30.0  # seconds until the first step
SPARE = 0.95  # share of the time that is planned with: other programs run too
TESTING = 0.1  # share of the time for evaluations
EVALUATIONS = 5  # at most, the last one among them
ROUND = 10


def device(machine: Machine) -> list[Decision]:
    """What follows from the machine alone."""
    workers = max(1, min(machine.workers - 1, 8 if machine.gpu else 2))
    why = f"{machine.workers} cores, one of them for the network itself"
    return [Decision("DATALOADER.NUM_WORKERS", workers, why)]


def precision(seconds: Mapping[str, float]) -> list[Decision]:
    """fp32, unless mixed precision is faster here.

    Args:
        seconds: of a step by precision, "fp32" among them.
    """
    best = min(seconds, key=lambda name: seconds[name])
    if seconds[best] > GAIN * seconds["fp32"]:
        best = "fp32"
    times = ", ".join(f"{name} {s:.2f}" for name, s in seconds.items())
    why = f"seconds a step here: {times}" if len(seconds) > 1 else "the one that was measured"
    return [
        Decision("SOLVER.AMP.ENABLED", best != "fp32", why),
        *([Decision("SOLVER.AMP.PRECISION", best, why)] if best != "fp32" else []),
    ]


def batch_of(base: Mapping[str, Any], minutes: float, step: float) -> int:
    """Images a step: as the base has it, unless so few steps fit into the time that fewer do.

    Args:
        step: seconds of one on a batch of the base.
    """
    batch = int(base["SOLVER.IMS_PER_BATCH"])
    seconds = step
    while batch > SMALLEST_BATCH and not enough_fit(minutes, seconds):
        batch, seconds = batch // 2, seconds / 2
    return batch


def enough_fit(minutes: float, step: float) -> bool:
    """Whether FEW_STEPS of these seconds fit into the time."""
    return minutes * 60 * SPARE >= FEW_STEPS * step


def batch(base: Mapping[str, Any], size: int, images: int, pieces: int = 1) -> list[Decision]:
    """The batch, and the rate that belongs to it.

    Args:
        size: images of an optimizer step.
        images: that the data set has.
        pieces: that a batch is computed in.
    """
    usual, rate = int(base["SOLVER.IMS_PER_BATCH"]), float(base["SOLVER.BASE_LR"])
    few = f"fewer than {FEW_STEPS} steps of {usual} fit into the time"
    why = f"as the base has it; {images} images are an epoch" if size == usual else few
    power = 0.5 if base["SOLVER.OPTIMIZER"] == "ADAMW" else 1.0
    rate *= (size / usual) ** power
    rule = "square root" if power < 1 else "linear"
    decisions = [
        Decision("SOLVER.IMS_PER_BATCH", size, why),
        Decision(
            "SOLVER.BASE_LR",
            float(f"{rate:.2g}"),
            f"{base['SOLVER.BASE_LR']:g} at {usual} images, {rule} rule of"
            f" {base['SOLVER.OPTIMIZER'].lower()} for {size}",
        ),
    ]
    if pieces > 1:
        why = f"{size} images at once take more than {FULL:.0%} of the memory"
        decisions.append(Decision("SOLVER.ACCUMULATE", pieces, why))
    return decisions


def pieces_of(size: int, peak: float, pieces: int = 1) -> int:
    """In how many parts a batch is computed so that it fits; they divide it.

    Args:
        peak: share of the memory that the worst batch takes in `pieces` parts.
    """
    if peak <= FULL:
        return pieces
    return next((n for n in range(pieces + 1, size) if size % n == 0), size)


def steps(
    data: DataFacts, minutes: float, size: int, measured: Measured, tested: int
) -> list[Decision]:
    """Steps, checkpoints and evaluations that fit into the time.

    Args:
        size: images of an optimizer step.
        tested: images of the test set.
    """
    once = tested * measured.image
    left = max(minutes * 60 - START, 0.0) * SPARE
    many = 1 + int(TESTING * left / once) if once else 1
    evaluations = min(max(many, 1), EVALUATIONS)
    count = (left - evaluations * once) / measured.step
    most = math.ceil(MOST_EPOCHS * data.images / size)
    most = max(most, FEW_STEPS)
    reason = (
        f"{minutes:g} minutes at {measured.step:.2f} s a step of {size}, less"
        f" {evaluations} x {once:.0f} s for {tested} test images"
    )
    if count > most:
        count = most
        reason = f"{MOST_EPOCHS} epochs or {FEW_STEPS} steps are enough, in less than the time"
    number = max(int(count) // ROUND * ROUND, FEWEST_STEPS)
    reason += f": {number * size / data.images:.1f} epochs"
    period = math.ceil(number / evaluations)
    every = f"{evaluations} evaluations, the last at the end, in a tenth of the time"
    alone = "at the end alone: more would cost a tenth of the time or more"
    return [
        Decision("SOLVER.MAX_ITER", number, reason),
        Decision("SOLVER.WARMUP_ITERS", warmup(number), "at most a twentieth of the steps"),
        Decision("SOLVER.CHECKPOINT_PERIOD", math.ceil(number / 4), "four of them"),
        Decision(
            "TEST.EVAL_PERIOD",
            period if evaluations > 1 else 0,
            every if evaluations > 1 else alone,
        ),
    ]


def warmup(number: int, usual: int = 50) -> int:
    """Steps of warm-up."""
    return min(usual, max(1, number // 20))

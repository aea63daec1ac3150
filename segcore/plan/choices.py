"""What is trained: the task, the network, and how long.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from segcore.errors import ConfigError
from segcore.plan.facts import DataFacts, Machine

TASKS = ("panoptic", "instance", "semantic", "entity")
TWO_STAGE, QUERIES = "maskrcnn", "mask2former"
NETWORKS = (TWO_STAGE, QUERIES)
BASES = {  # of a task and a network: the config that the plan builds on
    ("panoptic", QUERIES): "small/panoptic_lite0.yaml",
    ("instance", QUERIES): "small/instance_lite0.yaml",
    ("semantic", QUERIES): "small/semantic_lite0.yaml",
    ("entity", QUERIES): "small/entity_lite0.yaml",
    ("instance", TWO_STAGE): "small/maskrcnn_lite0.yaml",
    ("entity", TWO_STAGE): "small/maskrcnn_lite0.yaml",
}
AFTERNOON = 240.0  # minutes
SHORTEST = 20.0
WHOLE_AFTERNOON = 1000  # images
PATIENCE = 600.0  # minutes on a CPU from which on queries have learnt to tell objects apart


def task_of(data: DataFacts, wanted: str | None = None) -> tuple[str, str]:
    """The task and why; ConfigError where the data cannot teach it.

    Args:
        wanted: one of TASKS, or None: what the data hold most of.
    """
    if data.clips:
        raise ConfigError(
            f"{data.name} has videos; plans are made for images: start from small/video_lite0.yaml"
        )
    stuff = data.is_thing.count(False)
    if data.labels:
        if wanted not in (None, "semantic"):
            raise ConfigError(
                f"--task {wanted}: {data.name} has label images, which do not keep objects apart;"
                " expected semantic, or data with a mask an object"
            )
        return "semantic", "label images say the class of each pixel, not which object it is of"
    if wanted == "semantic" and not stuff:
        raise ConfigError(
            f"--task semantic: {data.name} has masks of objects alone, which leave the other pixels"
            " without a class; expected instance or entity, or label images"
        )
    if wanted is not None:
        return wanted, "as --task says"
    if stuff:
        return (
            "panoptic",
            f"objects, and {stuff} of {len(data.classes)} classes that are no objects",
        )
    return "instance", "every mask is an object; there is no class of background"


def network_of(
    task: str, data: DataFacts, machine: Machine, minutes: float, wanted: str | None = None
) -> tuple[str, str]:
    """One of NETWORKS and why.

    Args:
        minutes: of the whole training.
        wanted: by whoever knows better.
    """
    fits = task == "entity" or (task == "instance" and all(data.is_thing))
    if wanted is not None:
        if (task, wanted) not in BASES or (wanted == TWO_STAGE and not fits):
            raise ConfigError(
                f"--network {wanted}: a detector finds objects alone, and the task is {task} on"
                f" {len(data.classes)} classes; expected mask2former"
            )
        return wanted, "as --network says"
    if not fits:
        return QUERIES, f"one network for objects and pixels alike ({task})"
    if not machine.gpu and minutes < PATIENCE:
        return TWO_STAGE, (
            f"in {minutes:g} minutes on a CPU queries do not learn to tell objects apart (nuclei,"
            " two cores: Mask2Former AP50 26.6 after 900 steps of 8, this detector 73.0 after 300"
            " of 2); --network mask2former for the other"
        )
    return QUERIES, f"{minutes:g} minutes on {machine.name} are enough for queries to learn objects"


def minutes_of(data: DataFacts) -> tuple[float, str]:
    """How long a training takes where nobody says, and why."""
    share = AFTERNOON * data.images / WHOLE_AFTERNOON
    minutes = float(round(min(max(share, SHORTEST), AFTERNOON)))
    reason = (
        f"{AFTERNOON:g} minutes for {WHOLE_AFTERNOON} images or more, in proportion for"
        f" {data.images}, at least {SHORTEST:g}; --minutes for another number"
    )
    return minutes, reason

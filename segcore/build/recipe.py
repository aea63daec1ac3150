"""From a config to what the doctor wants to know of it."""

from __future__ import annotations

from segcore.build.data import known_classes
from segcore.build.task import build_task
from segcore.build.views import mirror_pairs
from segcore.config import Config
from segcore.contracts import Task
from segcore.doctor.recipe import Recipe
from segcore.structures import Metadata


def build_recipe(cfg: Config, metadata: Metadata) -> Recipe:
    """Views and limits of the config's model.

    Args:
        metadata: classes of the training set, unless the architecture has its own.
    """
    task = build_task(cfg, known_classes(cfg) or metadata)
    pairs = mirror_pairs(cfg, metadata.classes)
    scored = {"instance", "entity"} & set(task.makes)
    return Recipe(
        views=task.views,
        metadata=task.metadata,
        of_labels=task.needs == "labels",
        clips=task.clips,
        queries=_queries(task),
        detections=cfg.TEST.DETECTIONS_PER_IMAGE if scored else None,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        mirrors=cfg.INPUT.RANDOM_FLIP != "none" or cfg.INPUT.VERTICAL_FLIP > 0,
        swapped=frozenset(name for pair in pairs for name in pair),
    )


def _queries(task: Task) -> int | None:
    """Rows of the parameters that have one a query."""
    for name, parameter in task.model.named_parameters():
        if task.query_rows and name.endswith(task.query_rows):
            return len(parameter)
    return None

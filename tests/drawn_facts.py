"""Facts of data sets that nobody has to read."""

from __future__ import annotations

import numpy as np

from segcore.plan.facts import DataFacts, Machine

CPU = Machine(device="cpu", name="2 CPU threads", memory=16000.0, workers=2)
GPU = Machine(device="cuda", name="a GPU", memory=24000.0, workers=16)


def facts(
    images: int = 100,
    *,
    size: tuple[int, int] = (480, 640),
    objects: int = 10,
    side: float = 60.0,
    classes: tuple[str, ...] = ("cat", "dog"),
    stuff: int = 0,
    **more,
) -> DataFacts:
    """All images alike, objects from half to twice a side.

    Args:
        objects: of each image; 0: label images.
        stuff: how many of the last classes are no objects.
    """
    K = len(classes)
    things = tuple(k < K - stuff for k in range(K)) if objects else (False,) * K
    return DataFacts(
        name="drawn",
        classes=classes,
        is_thing=things,
        sizes=np.full((images, 2), size),
        counts=np.full(images, objects),
        sides=np.tile(side * np.geomspace(0.5, 2, max(objects, 1)), images)[: images * objects],
        owners=np.repeat(np.arange(images), objects),
        labels=not objects,
        **more,
    )

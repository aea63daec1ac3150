"""What a config does to images, and how much its model can say of one."""

from __future__ import annotations

from dataclasses import dataclass

from segcore.contracts import ViewSampler
from segcore.structures import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """As much of a config as the doctor wants to know.

    Args:
        views: what training sees of a record.
        metadata: the classes of the targets in these views.
        of_labels: targets are one mask a class, from label images.
        clips: views are frames of a video.
        queries: objects that the model can say of an image; None: it has no queries.
        detections: instances that are scored of an image; None: there are none.
        min_size: shorter edge at test time; 0: images stay as they are.
        max_size: longest edge at test time.
        mirrors: half of the training images are mirrored.
        swapped: names of classes that change places in these.
    """

    views: ViewSampler
    metadata: Metadata
    of_labels: bool
    clips: bool
    queries: int | None
    detections: int | None
    min_size: int
    max_size: int
    mirrors: bool
    swapped: frozenset[str] = frozenset()

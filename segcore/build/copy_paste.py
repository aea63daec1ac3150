"""INPUT.COPY_PASTE: training views with objects of another image in them."""

from __future__ import annotations

from segcore.contracts import StillSampler, Task, ViewSampler
from segcore.data.copy_paste import CopyPasteViews
from segcore.data.store import Records
from segcore.errors import ConfigError
from segcore.schema import CopyPaste

KEY = "INPUT.COPY_PASTE.PROBABILITY"


def training_views(paste: CopyPaste, task: Task, records: Records) -> ViewSampler:
    """Those of the task; where the config says so, with objects of other records pasted."""
    views = task.views
    if not paste.PROBABILITY:
        return views
    if not isinstance(views, StillSampler):
        raise ConfigError(
            f"{KEY} is {paste.PROBABILITY:g}; the architecture has training views of its own"
            f" ({type(views).__name__}), on which nothing is pasted: expected 0"
        )
    things = None if "entity" in task.makes else task.metadata.is_thing
    if not _has_objects(records, things):
        raise ConfigError(
            f"{KEY} is {paste.PROBABILITY:g}, but DATASETS.TRAIN has no objects to"
            " paste: label images do not keep them apart, and stuff is not pasted; expected 0, or"
            " data with a mask an object (COCO instances or COCO panoptic)"
        )
    return CopyPasteViews(
        views=views,
        objects=views.with_segments(),
        records=records.take(records.usable),
        things=things,
        probability=paste.PROBABILITY,
        most=paste.OBJECTS,
        least=paste.LEAST_PIXELS,
        by_class=task.needs == "labels",
    )


def _has_objects(records: Records, things: tuple[bool, ...] | None) -> bool:
    """Whether some record lists one."""
    return any(
        things is None or any(things[k] for k in classes)
        for classes in records.classes()
        if classes
    )

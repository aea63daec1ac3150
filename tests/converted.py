"""Conversion in one line, and what two data sets have in common, for tests."""

from pathlib import Path

from segcore.data.catalog import Catalog
from segcore.data.conversion import convert
from segcore.data.formats.format import Goal
from segcore.data.formats.table import format_of
from segcore.data.problem import raise_it
from segcore.data.still_segments import with_masks
from segcore.segment_rle import to_rle


def converted(source: str, folder: Path, name: str, **flags) -> tuple[str, dict[str, int]]:
    """The path of the new data set, and what was lost."""
    goal = Goal(folder=folder, split=flags.pop("split", "train"))
    flags = {"format": format_of(name), "goal": goal, "problem": raise_it} | flags
    return str(convert(Catalog(Path("nowhere")), source, **flags).path), dict(goal.lost)


def contents(name: str, *, crowds: bool = True) -> dict[str, list]:
    """By image (its name without folders and suffix): sorted class names, RLE texts and crowds."""
    catalog = Catalog(Path("nowhere"))
    metadata, images = catalog.metadata(name), {}
    for record in catalog.read(name):
        record = with_masks(record, metadata)
        frame = record.frames[0]
        assert frame.file.is_file()
        images[frame.file.stem] = sorted(
            (metadata.classes[s.category], to_rle(s, frame, record.size)["counts"], s.crowd)
            for s in frame.segments
            if crowds or not s.crowd
        )
    return images

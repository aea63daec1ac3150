"""A file format: a text file of `IMAGE CLASS X0 Y0 X1 Y1` lines beside the images."""

from itertools import groupby

from segcore.data.class_list import ClassList
from segcore.data.formats.format import Format
from segcore.data.images import image_size
from segcore.data.problem import Problem
from segcore.structures import Frame, Polygons, Record, Segment


def lines(path):
    """Lines of six words."""
    return [line.split() for line in path.read_text().splitlines()]


def read(source, metadata):
    """One record an image; a line with another class is reported."""
    for name, boxes in groupby(lines(source.annotations), key=lambda words: words[0]):
        segments = []
        for _, label, *corners in boxes:
            if label not in metadata.classes:
                message = f"{source.annotations}: {name} has class {label!r}"
                path = source.annotations
                source.problem(Problem(message=message, path=path, kind="category", image=name))
                continue
            x0, y0, x1, y1 = map(float, corners)
            shape = Polygons(((x0, y0, x1, y0, x1, y1, x0, y1),))
            segments.append(Segment(metadata.classes.index(label), shape))
        file = source.images / name
        yield Record(name, image_size(file), (Frame(file, tuple(segments)),))


def classes(source):
    """Those that occur."""
    return ClassList(tuple(sorted({words[1] for words in lines(source.annotations)})))


FORMAT = Format(
    name="boxes",
    read=read,
    recognises=lambda path: path.suffix == ".boxes",
    images_beside=lambda path: path.parent / "images",
    classes=classes,
    evaluators=("instance",),
)

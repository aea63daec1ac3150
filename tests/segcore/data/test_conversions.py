"""Every format into every other one: the same masks, or exactly what both formats hold."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from converted import converted
from drawn_shapes import make_shapes

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.data.formats.table import all_formats
from segcore.data.still_segments import with_masks
from segcore.segment_rle import to_rle

WRITTEN = [format.name for format in all_formats() if format.write is not None]


def masks_of(name):
    """Class names, and by image: (class, crowd, mask) in the files' order."""
    catalog, images = Catalog(Path("nowhere")), {}
    metadata = catalog.metadata(name)
    for record in catalog.read(name):
        frame = (record := with_masks(record, metadata)).frames[0]
        assert frame.file.is_file()
        images[frame.file.stem] = [
            (
                metadata.classes[segment.category],
                segment.crowd,
                masks.decode(to_rle(segment, frame, record.size)),
            )
            for segment in frame.segments
        ]
    return metadata.classes, images


def painted(segments):
    """What is seen where the smaller one lies above, and crowds below all."""
    segments = sorted(segments, key=lambda s: (not s[1], -s[2].sum()))
    for i, (label, crowd, mask) in enumerate(segments):
        seen = mask & ~np.any([above for _, _, above in segments[i + 1 :]] or [mask & False], 0)
        if seen.any():
            yield label, crowd, seen


def classes_alone(segments):
    seen = list(painted(segments))
    for label in {label for label, _, _ in seen}:
        yield label, False, np.any([mask for other, _, mask in seen if other == label], 0)


HELD = {  # what a format holds of an image; the others hold everything
    "yolo": lambda segments: [s for s in segments if not s[1]],
    "coco_panoptic": lambda segments: list(painted(segments)),
    "label_png": lambda segments: list(classes_alone(segments)),
    "color_png": lambda segments: list(classes_alone(segments)),
}


def held(images, *names):
    for name in names:
        images = {key: HELD.get(name, list)(segments) for key, segments in images.items()}
    return images


def as_texts(images):
    """Whatever the order."""
    return {
        key: sorted((label, crowd, mask.shape, mask.tobytes()) for label, crowd, mask in segments)
        for key, segments in images.items()
    }


def part_of(path: Path, count: int, folder: Path) -> Path:
    """A COCO JSON of the `count` images with the fewest annotations, but at least three."""
    content = json.loads(path.read_text())
    owners = [annotation["image_id"] for annotation in content["annotations"]]
    crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
    full = [image for image in content["images"] if owners.count(image["id"]) >= 3]
    full.sort(key=lambda image: (image["id"] not in crowded, owners.count(image["id"])))
    content["images"] = full[:count]
    kept = {image["id"] for image in full[:count]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    part = folder / "part.json"
    part.write_text(json.dumps(content))
    return part


@pytest.fixture(scope="module")
def sources(tmp_path_factory, request):
    """By name: a data set as a path."""

    @cache
    def source(name):
        folder = tmp_path_factory.mktemp(name)
        if name == "drawn":
            return make_shapes(folder)
        if name == "hard":
            return make_shapes(folder, hard=True)
        data = request.getfixturevalue("shared_data")
        if name == "nuclei":
            annotations, images = "annotations/instances_train.json", "images/train"
            place = data / "nuclei_dsb2018_cc0"
        else:
            annotations, images, place = "instances.json", "images", data / "coco_polygons_mini"
        return f"{part_of(place / annotations, 1, folder)}@{place / images}"

    return source


@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("name", ["drawn", "hard", "nuclei", "coco"])
def test_every_pair_of_formats_keeps_what_both_hold(sources, tmp_path, name, first):
    source = sources(name)
    classes, images = masks_of(source)
    start, _ = converted(source, tmp_path / "first", first)
    kept, seen = masks_of(start)
    assert kept == classes
    assert as_texts(seen) == as_texts(held(images, first))
    for second in WRITTEN:
        path, _ = converted(start, tmp_path / second, second)
        kept, seen = masks_of(path)
        assert kept == classes, second
        assert as_texts(seen) == as_texts(held(images, first, second)), second


LOSSES = {
    "coco_instances": {},
    "coco_panoptic": {"segments partly or wholly under others": 1},
    "labelme": {},
    "cvat": {},
    "label_studio": {},
    "mask_folders": {},
    "yolo": {"crowd regions, left out": 1},
    "label_png": {
        "segments partly or wholly under others": 1,
        "objects that are no longer kept apart from others of their class": 7,
        "crowd regions, which become their class": 1,
    },
}


@pytest.mark.parametrize("name", WRITTEN)
def test_losses_are_named(sources, tmp_path, name):
    path, lost = converted(sources("hard"), tmp_path, name)
    assert lost == LOSSES["label_png" if name == "color_png" else name]
    assert path.startswith(str(tmp_path))


def test_stuff_classes_stay_where_the_format_has_a_word_for_them(tiny, tmp_path):
    for name in WRITTEN:
        path, lost = converted(str(tiny / "panoptic.json"), tmp_path / name, name)
        metadata = Catalog(tmp_path).metadata(path)
        assert metadata.classes == ("box", "disc", "ground")
        if name in ("yolo", "cvat"):
            assert lost == {"stuff classes, which are read as things": 1}
        elif name not in ("label_png", "color_png"):
            assert (metadata.is_thing, lost) == ((True, True, False), {})


@pytest.mark.parametrize("place", ["JPEGImages", "data"])
@pytest.mark.parametrize("name", ["labelme", "cvat", "label_studio", "mask_folders"])
def test_images_are_found_where_other_tools_put_them(tmp_path, name, place):
    path, _ = converted(make_shapes(tmp_path / "in"), tmp_path / "out", name)
    (tmp_path / "out/images/train").rename(tmp_path / "out" / place)
    (tmp_path / "out/images").rmdir()
    assert set(masks_of(path.partition("@")[0])[1]) == {"one", "two", "empty"}

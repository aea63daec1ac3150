"""Objects of one image on another: pixels, masks and labels agree."""

import numpy as np
import pytest
from PIL import Image

from segcore import masks
from segcore.data.copy_paste import CopyPasteViews
from segcore.data.frame_transforms import RandomRotation
from segcore.data.transforms import FixedSizeCrop, PadTo, RandomFlip, ResizeScale
from segcore.data.views import StillViews
from segcore.structures import Frame, Metadata, PngId, Polygons, Record, Segment

METADATA = Metadata(
    *("drawn", ("box", "disc", "ground"), (1, 2, 3), (True, True, False)), ((0, 0, 0),) * 3
)
RED, BLUE, GREY = (250, 20, 20), (20, 20, 250), (90, 90, 90)
LSJ = [ResizeScale(min_scale=0.4, max_scale=1.6, height=48, width=48), FixedSizeCrop((48, 48))]


def drawn(folder, name, boxes, size=(40, 60), kind="rle", ground=False):
    """Boxes (y0 y1 x0 x1, class, colour, crowd) on grey; where wanted the grey is a segment."""
    image, ids = np.full((*size, 3), GREY, np.uint8), np.full(size, 9, np.uint8)
    segments = []
    for number, (y0, y1, x0, x1, label, color, crowd) in enumerate(boxes, 1):
        image[y0:y1, x0:x1], ids[y0:y1, x0:x1] = color, number
        ring = tuple(map(float, (x0, y0, x1, y0, x1, y1, x0, y1)))
        shapes = {"png": PngId(number), "polygon": Polygons((ring,))}
        rle = masks.encode((ids == number)[None])[0]
        segments.append(Segment(label, shapes.get(kind, rle), crowd=crowd))
    if ground:
        segments.append(
            Segment(2, PngId(9) if kind == "png" else masks.encode((ids == 9)[None])[0])
        )
    Image.fromarray(image).save(folder / f"{name}.png")
    Image.fromarray(ids).save(folder / f"{name}_ids.png")
    frame = Frame(folder / f"{name}.png", tuple(segments), folder / f"{name}_ids.png")
    return Record(name, size, (frame,))


def red(folder, box=(5, 25, 10, 40), **options):
    """The image that is pasted on."""
    return drawn(folder, "red", [(*box, 0, RED, False)], **options)


def pasted(record, others, *, steps=(), targets="instance", seed=0, outlines=False, **options):
    """A sample with objects of one of the others, and where it is red and blue."""
    views = StillViews(
        metadata=METADATA, targets=targets, steps=steps, min_size=0, max_size=99, outlines=outlines
    )
    given = {"things": METADATA.is_thing, "most": 100, "least": 16} | options
    both = CopyPasteViews(
        views=views,
        objects=views.with_segments(),
        records=others,
        probability=1.0,
        by_class=targets == "semantic",
        **given,
    )
    sample = both(record, np.random.default_rng(seed))
    assert sample.targets.present.all()
    image = sample.views[0].numpy()
    return sample, image[0] > 180, image[2] > 180


@pytest.mark.parametrize("kind", ["rle", "polygon", "png"])
def test_masks_are_what_shows_and_areas_equal_those_by_hand(tmp_path, kind):
    other = drawn(tmp_path, "blue", [(15, 35, 30, 50, 1, BLUE, False)], kind=kind)
    sample, is_red, is_blue = pasted(red(tmp_path, kind=kind), [other])
    assert sample.targets.labels.tolist() == [0, 1]
    assert np.array_equal(sample.targets.masks[0, 0], is_red)
    assert np.array_equal(sample.targets.masks[1, 0], is_blue)
    assert sample.targets.masks.flatten(1).sum(1).tolist() == [20 * 30 - 10 * 10, 20 * 20]
    assert sample.record.id == "red"


@pytest.mark.parametrize("kind", ["rle", "polygon", "png"])
@pytest.mark.parametrize("turn", [None, RandomRotation(90, low=0.5, high=0.5)])
def test_both_images_are_transformed_with_draws_of_their_own(tmp_path, kind, turn):
    other = drawn(tmp_path, "blue", [(15, 35, 30, 50, 1, BLUE, False)], kind=kind)
    steps, sides, shown = [RandomFlip(), *LSJ, *([turn] if turn else [])], set(), 0
    for seed in range(12):
        sample, is_red, is_blue = pasted(
            red(tmp_path, kind=kind), [other], steps=steps, seed=seed, least=1
        )
        shapes = dict(zip(sample.targets.labels.tolist(), sample.targets.masks[:, 0], strict=True))
        sides.add(int(shapes[1].sum()) if 1 in shapes else 0)
        for label, color in ((0, is_red), (1, is_blue)):
            shape = shapes[label].numpy() if label in shapes else np.zeros((48, 48), bool)
            shown += (shape & color).sum() > 20
            edge = 1 - (shape & color).sum() / max((shape | color).sum(), 1)
            assert edge < 0.2 or (shape ^ color).sum() < 90  # resized edges are mixed colours
        if len(shapes) == 2:
            assert not (shapes[0] & shapes[1]).any()
    assert len(sides) > 6
    assert shown > 12


def test_covered_objects_are_dropped_and_those_left_alone_are_kept(tmp_path):
    tiny = (0, 3, 0, 3, 0, RED, False)  # nine pixels, which nothing covers
    boxes = [tiny, (10, 20, 10, 20, 0, RED, False), (10, 20, 30, 40, 0, RED, False)]
    first = drawn(tmp_path, "first", boxes)
    for end, expected in ((18, [9, 20, 100]), (19, [9, 100])):  # 20 pixels are left, or 10
        other = drawn(tmp_path, "blue", [(8, 25, 8, end, 1, BLUE, False)])
        sample, _, _ = pasted(first, [other])
        areas = sample.targets.masks.flatten(1).sum(1).tolist()
        assert areas == [*expected, 17 * (end - 8)]


def test_nothing_of_the_first_image_may_be_left(tmp_path):
    other = drawn(tmp_path, "blue", [(0, 40, 0, 60, 1, BLUE, False)])
    sample, is_red, _ = pasted(red(tmp_path), [other])
    assert sample.targets.labels.tolist() == [1]
    assert sample.targets.masks.all()
    assert not is_red.any()


def test_an_image_without_objects_takes_them_and_one_gives_none(tmp_path):
    empty = drawn(tmp_path, "empty", [])
    sample, is_red, _ = pasted(empty, [red(tmp_path)])
    assert sample.targets.labels.tolist() == [0]
    assert np.array_equal(sample.targets.masks[0, 0], is_red)
    for giver in (empty, drawn(tmp_path, "crowd", [(5, 30, 5, 30, 1, BLUE, True)])):
        sample, is_red, is_blue = pasted(red(tmp_path), [giver])
        assert sample.targets.masks.flatten(1).sum(1).tolist() == [600]
        assert not is_blue.any()


@pytest.mark.parametrize("kind", ["rle", "png"])
def test_stuff_is_covered_and_is_not_pasted(tmp_path, kind):
    other = drawn(tmp_path, "blue", [(15, 35, 30, 50, 1, BLUE, False)], ground=True, kind=kind)
    first = red(tmp_path, ground=True, kind=kind)
    sample, _, _ = pasted(first, [other], targets="panoptic")
    assert sample.targets.labels.tolist() == [0, 2, 1]
    areas = sample.targets.masks.flatten(1).sum(1).tolist()
    assert areas == [500, 40 * 60 - 600 - 300, 400]
    assert (sample.targets.masks.sum(0) == 1).all()
    everything, _, _ = pasted(first, [other], targets="panoptic", things=None, seed=3)
    assert 2 in everything.targets.labels.tolist()[-2:]  # an entity like others


def test_semantic_maps_get_the_class_of_what_is_pasted(tmp_path):
    boxes = [(15, 35, 30, 50, 0, BLUE, False), (0, 4, 0, 5, 1, BLUE, False)]
    other = drawn(tmp_path, "blue", boxes, ground=True, kind="png")
    first = red(tmp_path, ground=True, kind="png")
    counts = set()
    for seed in range(8):
        sample, _, _ = pasted(first, [other], targets="semantic", seed=seed)
        labels, areas = sample.targets.labels.tolist(), sample.targets.masks.flatten(1).sum(1)
        assert labels == sorted(set(labels))
        assert (sample.targets.masks.sum(0) == 1).all()
        counts.add(tuple(zip(labels, areas.tolist(), strict=True)))
    both = ((0, 600 + 300), (1, 20), (2, 1800 - 300 - 20))
    assert counts == {both, ((0, 900), (2, 1500)), ((0, 600), (1, 20), (2, 1780))}


def test_images_of_other_sizes_are_placed_anywhere_inside(tmp_path):
    small = drawn(tmp_path, "blue", [(0, 10, 0, 10, 1, BLUE, False)], size=(10, 10))
    corners = set()
    for seed in range(30):
        sample, _, is_blue = pasted(red(tmp_path), [small], seed=seed)
        assert np.array_equal(sample.targets.masks[-1, 0], is_blue)
        assert is_blue.sum() == 100
        corners.add(tuple(np.argwhere(is_blue)[0].tolist()))
    assert len(corners) > 25
    large = drawn(tmp_path, "large", [(0, 90, 0, 99, 1, BLUE, False)], size=(90, 99))
    sample, _, is_blue = pasted(red(tmp_path), [large])
    assert sample.views.shape[-2:] == (40, 60)
    assert is_blue.all()


def test_outlines_stay_with_whole_objects_alone(tmp_path):
    boxes = [(5, 25, 10, 40, 0, RED, False), (30, 38, 2, 12, 0, RED, False)]
    first = drawn(tmp_path, "first", boxes, kind="polygon")
    other = drawn(tmp_path, "blue", [(15, 35, 30, 50, 1, BLUE, False)], kind="polygon")
    sample, _, _ = pasted(first, [other], outlines=True)
    cut, whole, new = sample.targets.polygons
    assert cut is None
    assert whole.rings == ((2, 30, 12, 30, 12, 38, 2, 38),)
    assert new.rings == ((30, 15, 50, 15, 50, 35, 30, 35),)
    cropped = [PadTo(32)]  # the object goes on outside
    sample, _, _ = pasted(first, [other], outlines=True, steps=cropped)
    assert sample.targets.polygons[-1] is None


def test_the_number_of_objects_is_limited_and_drawn(tmp_path):
    boxes = [(0, 8, x, x + 8, 1, BLUE, False) for x in range(0, 60, 10)]
    other = drawn(tmp_path, "blue", boxes)
    for most, expected in ((100, {1, 2, 3, 4, 5, 6}), (2, {1, 2})):
        seen = {
            pasted(red(tmp_path), [other], seed=seed, most=most)[0].targets.labels.tolist().count(1)
            for seed in range(40)
        }
        assert seen == expected

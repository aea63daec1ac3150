"""Training patches: matched to the truth, stored in one file, made into batches that train."""

from functools import partial

import numpy as np
import pytest
import torch
from scenes import (
    METADATA,
    SIZE,
    coarse,
    coco_entries,
    disc,
    make_records,
    places,
    truth,
)
from test_refine_files import write_coco

from maskrefine.degrade import WAYS, degrade
from maskrefine.patch_data import (
    PatchViews,
    PredictedMasks,
    cut_patches,
    degraded_truth,
    fresh_patch,
    patch_sample,
    training_patches,
)
from maskrefine.patch_store import open_patches, patch_records, read_patch, write_patches
from maskrefine.patches import boundary_boxes
from maskrefine.truth import match_instances, sample_instances
from segcore.data.images import read_image
from segcore.data.loader import train_loader
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.masks import decode, encode
from segcore.predictions.read import read_predictions
from segcore.structures import Batch, Frame, Record, Segment


@pytest.fixture
def records(tmp_path):
    return make_records(tmp_path / "images")


@pytest.fixture
def predictions(tmp_path):
    return read_predictions(write_coco(tmp_path, coco_entries()))


@pytest.fixture
def store(tmp_path, records, predictions):
    instances = match_instances(predictions, records, METADATA)
    path = tmp_path / "patches.npy"
    write_patches(path, training_patches(instances, records), 64)
    return path


def test_instances_meet_the_objects_of_their_class_in_the_order_of_the_file(records, predictions):
    matched = match_instances(predictions, records, METADATA)
    assert [m.place for m in matched] == list(range(8))
    assert [m.record for m in matched] == [0, 1, 2, 3, 0, 1, 2, 3]
    for m in matched:
        wanted = truth(m.record)[m.place // 4]
        np.testing.assert_array_equal(decode(m.truth), wanted)
        both = coarse(m.record)[m.place // 4]
        assert m.iou == pytest.approx((both & wanted).sum() / (both | wanted).sum())


def record_with(records, masks, labels, crowds):
    segments = [
        Segment(label, rle, crowd)
        for rle, label, crowd in zip(encode(masks), labels, crowds, strict=True)
    ]
    return Record(10, SIZE, (Frame(records[0].frames[0].file, tuple(segments)),))


def test_crowds_and_other_classes_are_no_truth(tmp_path, records):
    entry = coco_entries()[0]
    predictions = read_predictions(write_coco(tmp_path, [entry]))
    exact, near = coarse(0)[0], disc(*places(0)[0])
    masks = np.stack([exact, exact, near, disc(80, 100, 5)])
    record = record_with(records, masks, (1, 0, 0, 0), (False, True, False, False))
    (m,) = match_instances(predictions, [record], METADATA)
    np.testing.assert_array_equal(decode(m.truth), near)
    others = record_with(records, masks[:2], (1, 0), (False, True))
    assert match_instances(predictions, [others], METADATA) == []
    (m,) = match_instances(predictions, [others], METADATA, min_iou=None)
    assert m.truth is None


def test_half_an_overlap_is_not_enough(tmp_path, records):
    left = np.zeros(SIZE, bool)
    left[10:20, 10:20] = True
    wide = np.zeros(SIZE, bool)
    wide[10:20, 10:30] = True
    entry = coco_entries()[0]
    counts = encode(left[None])[0]["counts"].decode()
    entry["segmentation"] = {"size": list(SIZE), "counts": counts}
    predictions = read_predictions(write_coco(tmp_path, [entry]))
    record = record_with(records, wide[None], (0,), (False,))
    assert match_instances(predictions, [record], METADATA) == []
    assert len(match_instances(predictions, [record], METADATA, min_iou=0.49)) == 1


def test_categories_that_the_truth_lacks_raise(tmp_path, records):
    entries = coco_entries()
    entries[2]["category_id"] = 1
    predictions = read_predictions(write_coco(tmp_path, entries))
    with pytest.raises(DataError, match=r"image 12: has category 1; discs knows 2 ids from 3 to 7"):
        match_instances(predictions, records, METADATA)


def test_the_draw_is_numpys(records, predictions):
    matched = match_instances(predictions, records, METADATA)
    np.random.seed(2020)
    wanted = np.random.choice(len(matched), 20).tolist()  # as the published program draws
    assert [m.place for m in sample_instances(matched, 20)] == wanted
    with pytest.raises(DataError, match="no predicted instance"):
        sample_instances([], 3)


def test_patches_are_what_lies_in_the_boxes(records):
    image = read_image(records[1].frames[0].file)
    mask, goal = coarse(1)[1], truth(1)[1]
    patches = cut_patches(image, mask, goal, iou_threshold=0.25)
    boxes = boundary_boxes(mask, iou_threshold=0.25)
    assert len(boxes) > 1
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        np.testing.assert_array_equal(patches.images[i], image[y0:y1, x0:x1].transpose(2, 0, 1))
        np.testing.assert_array_equal(patches.coarse[i], mask[y0:y1, x0:x1])
        np.testing.assert_array_equal(patches.truth[i], goal[y0:y1, x0:x1])


def test_a_store_gives_back_every_patch(tmp_path, records, predictions, store):
    instances = match_instances(predictions, records, METADATA)
    parts = list(training_patches(instances, records))
    number = 0
    for part in parts:
        for i in range(len(part.images)):
            found = read_patch(store, number)
            for name in ("images", "coarse", "truth"):
                np.testing.assert_array_equal(getattr(found, name)[0], getattr(part, name)[i])
            number += 1
    assert len(open_patches(store)) == number
    assert store.stat().st_size < number * 13_400 + 1000
    assert [p.name for p in tmp_path.glob("*.tmp")] == []


def test_a_store_of_odd_patches(tmp_path):
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (70, 80, 3), dtype=np.uint8), np.zeros((70, 80), bool)
    mask[20:50, 20:50] = True
    part = cut_patches(image, mask, ~mask, iou_threshold=0.5, size=33)
    path = tmp_path / "odd.npy"
    assert write_patches(path, [part, part], 33) == 2 * len(part.images)
    last = read_patch(path, 2 * len(part.images) - 1)
    np.testing.assert_array_equal(last.images[0], part.images[-1])
    np.testing.assert_array_equal(last.truth[0], part.truth[-1])


def test_a_store_that_fails_half_way_is_not_there(tmp_path):
    def parts():
        image, mask = np.zeros((70, 80, 3), np.uint8), np.eye(70, 80, dtype=bool)
        yield cut_patches(image, mask, mask, iou_threshold=0.5)
        raise DataError("image not found")

    path = tmp_path / "patches.npy"
    with pytest.raises(DataError, match="image not found"):
        write_patches(path, parts(), 64)
    assert not path.exists()
    with pytest.raises(DataError, match="no such store"):
        open_patches(path)


def test_files_that_are_no_store_raise(tmp_path):
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(DataError, match="but no store of patches"):
        open_patches(tmp_path / "other.npy")
    (tmp_path / "text.npy").write_text("x")
    with pytest.raises(DataError, match="cannot be read as a store"):
        open_patches(tmp_path / "text.npy")


def test_a_sample_is_resized_mirrored_and_recoloured(store):
    record = next(iter(patch_records(store)))
    patch = read_patch(store, 0)
    plain = patch_sample(patch, record, 128, None)
    assert plain.views.shape == (1, 4, 128, 128)
    np.testing.assert_array_equal(plain.views[0, 3, ::2, ::2], patch.coarse[0])
    np.testing.assert_array_equal(plain.targets.masks[0, 0, 1::2, 1::2], patch.truth[0])
    samples = [patch_sample(patch, record, 128, np.random.default_rng(i)) for i in range(40)]
    mirrored = [torch.equal(s.views[0, 3], plain.views[0, 3].flip(-1)) for s in samples]
    assert 10 < sum(mirrored) < 30
    for sample, turned in zip(samples, mirrored, strict=True):
        assert sample.views.unique().max() <= 255
        goal = plain.targets.masks.flip(-1) if turned else plain.targets.masks
        assert torch.equal(sample.targets.masks, goal)
    kept = [torch.equal(s.views[0, :3], plain.views[0, :3]) for s in samples]
    assert not all(kept)  # colours change, masks only with the mirror


def test_patches_that_are_not_mirrored_have_the_same_colours(store):
    record = next(iter(patch_records(store)))
    plain = PatchViews(input_size=32, mirror=False)
    mirrored = PatchViews(input_size=32)
    turned = 0
    for seed in range(12):
        one, other = (v(record, np.random.default_rng(seed)) for v in (plain, mirrored))
        assert torch.equal(one.views[0, 3], plain(record, None).views[0, 3])
        turned += not torch.equal(one.views, other.views)
        assert torch.equal(one.views, other.views) or torch.equal(one.views, other.views.flip(-1))
    assert 0 < turned < 12


def batches_of(views, records, size=4):
    return train_loader(Records(records), views, batch_size=size, seed=0, group_by_aspect=False)


def test_the_loader_makes_batches_of_a_store(store):
    batch = next(batches_of(PatchViews(input_size=32), patch_records(store)))
    assert isinstance(batch, Batch)
    assert batch.images.shape == (4, 1, 4, 32, 32)
    assert batch.counts().tolist() == [4, 4]


@pytest.mark.parametrize("source", ["predictions", "degraded truth"])
def test_the_loader_makes_batches_of_images(records, predictions, source):
    matched = match_instances(predictions, records, METADATA)
    masks = PredictedMasks.of(matched, records) if source == "predictions" else degraded_truth
    views = PatchViews(input_size=32, patch_of=partial(fresh_patch, coarse=masks))
    first, again = (next(batches_of(views, records)) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert first.images.shape == (4, 1, 4, 32, 32)
    assert any(
        (t.masks[0, 0] != i[0, 3]).any() for t, i in zip(first.targets, first.images, strict=True)
    )


def test_images_without_objects_give_no_patch(records):
    empty = Record(1, SIZE, (Frame(records[0].frames[0].file),))
    views = PatchViews(input_size=32, patch_of=partial(fresh_patch, coarse=degraded_truth))
    assert views(empty, np.random.default_rng(0)) is None
    views = PatchViews(input_size=32, patch_of=partial(fresh_patch, coarse=PredictedMasks({})))
    assert views(records[0], np.random.default_rng(0)) is None


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_degrade_changes_a_mask_a_little(way):
    rng, changed = np.random.default_rng(0), 0
    mask = disc(45, 55, 30) & ~disc(30, 60, 12)
    for _ in range(10):
        found = WAYS[way](mask, rng)
        assert found.shape == mask.shape and found.dtype == bool
        assert (found & mask).sum() > 0.2 * (found | mask).sum()
        changed += (found != mask).any()
    assert changed >= 8


def test_degraded_masks_overlap_the_true_one_by_more_than_half():
    rng = np.random.default_rng(0)
    kept = 0
    for radius in (1, 3, 10, 30):
        mask = disc(4, 55, radius)
        for _ in range(10):
            found = degrade(mask, rng)
            if found is not None:
                kept += 1
                assert (found & mask).sum() > 0.5 * (found | mask).sum()
    assert kept > 25
    assert degrade(np.zeros(SIZE, bool), rng) is None


def test_growing_and_shrinking_reach_so_many_pixels():
    mask = np.zeros((40, 40), bool)
    mask[15:25, 15:25] = True

    class Three:
        def integers(self, low, high):
            return 3

    grown, shrunk = WAYS["grow"](mask, Three()), WAYS["shrink"](mask, Three())
    assert grown.sum() == 16 * 16 and grown[12:28, 12:28].all()
    assert shrunk.sum() == 4 * 4 and shrunk[18:22, 18:22].all()

"""Readers, transforms, samples and loaders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import load
from PIL import Image
from tiny import make_dataset

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.data.color import ColorSSD
from segcore.data.images import read_image
from segcore.data.loader import TestLoader, batch_plan, train_loader
from segcore.data.transforms import (
    Axis,
    Example,
    FixedSizeCrop,
    PadTo,
    RandomCrop,
    RandomFlip,
    ResizeScale,
    ResizeShortestEdge,
    shortest_edge,
)
from segcore.data.views import StillViews
from segcore.errors import DataError
from segcore.labels import semantic_map

STEPS = [ResizeShortestEdge((48, 56), 80), RandomCrop((40, 40)), ColorSSD(), RandomFlip()]


def views_of(metadata, targets="instance", steps=STEPS):
    return StillViews(metadata=metadata, targets=targets, steps=steps, min_size=48, max_size=80)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return make_dataset(folder), folder


@pytest.mark.parametrize(
    ("name", "targets", "classes"),
    [("tiny_panoptic", "panoptic", 3), ("tiny_instances", "instance", 2),
     ("tiny_semantic", "semantic", 3)],
)  # fmt: skip
def test_three_forms_of_one_data_set(tiny, name, targets, classes):
    metadata, records = load(name, Path("nowhere"), [tiny[0]])
    assert len(metadata.classes) == classes
    assert len(records) == 8
    sample = views_of(metadata, targets, [])(records[0], np.random.default_rng(0))
    assert sample.targets.masks.shape == (len(sample.targets.labels), 1, 72, 64)
    truth = semantic_map(
        load("tiny_semantic", Path(), [tiny[0]])[1][0].frames[0],
        Catalog(Path(), [tiny[0]]).metadata("tiny_semantic"),
    )
    for label, mask in zip(sample.targets.labels.tolist(), sample.targets.masks[:, 0], strict=True):
        assert np.array_equal(mask.numpy(), truth == label)


def test_paths_are_data_sets(tiny):
    folder = tiny[1]
    for name in ("panoptic.json", "instances.json"):
        metadata, records = load(str(folder / name))
        assert metadata.classes[:2] == ("box", "disc")
        assert records[3].frames[0].file.exists()
    with pytest.raises(DataError, match=r"classes\.json"):
        load(f"{folder}/labels@{folder}/images")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "has no 'images'"),
        (lambda c: c["images"].append(c["images"][0]), "listed twice"),
        (lambda c: c["annotations"][0].update(category_id=91), "has category 91"),
        (lambda c: c["annotations"][0].update(image_id=77), "not listed"),
        (lambda c: c["annotations"][0].pop("category_id"), "has no 'category_id'"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[5, 5]), "mask of size"),
        (lambda c: c["images"][0].pop("height"), "has no 'height'"),
        (lambda c: c.pop("categories"), "has no categories"),
    ],
)
def test_broken_annotations_are_told(tiny, tmp_path, change, message):
    content = json.loads((tiny[1] / "instances.json").read_text())
    change(content)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(f"{tmp_path}/x.json@{tiny[1]}/images")


def test_truncated_and_missing_files_are_told(tiny, tmp_path):
    (tmp_path / "x.json").write_text((tiny[1] / "instances.json").read_text()[:500])
    with pytest.raises(DataError, match="not valid JSON"):
        load(str(tmp_path / "x.json"))
    with pytest.raises(DataError, match="nearest names: coco_2017_train"):
        load("coco_2017_tran")
    with pytest.raises(DataError, match="DETECTRON2_DATASETS"):
        load("coco_2017_val")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path / "broken.jpg")


def test_images_of_all_kinds_become_rgb(tmp_path):
    wide = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(wide).save(tmp_path / "16bit.png")
    Image.new("P", (4, 3)).save(tmp_path / "palette.png")
    Image.new("LA", (4, 3)).save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3)).save(tmp_path / "turned.jpg", exif=exif)
    for name in ("16bit.png", "palette.png", "alpha.png"):
        assert read_image(tmp_path / name).shape == (3, 4, 3)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 3, 3)
    assert read_image(tmp_path / "16bit.png")[2, 3, 0] == 55000 >> 8


def test_nearest_rules_of_pillow_and_torch():
    axis = Axis.whole(7).resize(4)
    assert axis.pixels.tolist() == [0, 2, 4, 6]
    assert axis.labels.tolist() == [0, 1, 3, 5]
    ids = np.random.default_rng(0).integers(0, 255, (37, 53), dtype=np.uint8)
    resized = np.asarray(Image.fromarray(ids).resize((41, 29), Image.Resampling.NEAREST))
    example = Example.whole(np.zeros((37, 53, 3), np.uint8)).resize(29, 41)
    assert np.array_equal(example.read(ids, 0), resized)
    rule = torch.nn.functional.interpolate(torch.from_numpy(ids)[None, None].double(), (29, 41))
    assert np.array_equal(example.read(ids, 0, labels=True), rule[0, 0].numpy().astype(np.uint8))


def test_shortest_edge_rounds_half_up():
    assert shortest_edge(480, 640, 800, 1333) == (800, 1067)
    assert shortest_edge(1080, 1920, 800, 1333) == (750, 1333)
    assert shortest_edge(3000, 4000, 800, 1333) == (800, 1067)


def test_sizes_never_vanish_and_0_keeps_them():
    assert shortest_edge(1, 4000, 800, 1333) == (1, 1333)
    assert shortest_edge(4000, 1, 800, 1333) == (1333, 1)
    assert shortest_edge(30, 40, 0, 20) == (30, 40)
    line = Example.whole(np.zeros((1, 4000, 3), np.uint8))
    resized = ResizeShortestEdge((640,), 1333)(line, np.random.default_rng(0))
    assert resized.image.shape == (1, 1333, 3)
    assert ResizeShortestEdge((0,), 9)(line, np.random.default_rng(0)).image.shape == (1, 4000, 3)


def test_fixed_size_crop_slides_on_the_diagonal():
    example = Example.whole(np.zeros((200, 300, 3), np.uint8))
    rng = np.random.default_rng(3)
    u = np.random.default_rng(3).random()
    cropped = FixedSizeCrop((100, 120))(example, rng)
    assert cropped.image.shape == (100, 120, 3)
    assert cropped.y.pixels[0] == round(100 * u)
    assert cropped.x.pixels[0] == round(180 * u)
    padded = FixedSizeCrop((256, 256))(Example.whole(np.zeros((20, 300, 3), np.uint8)), rng)
    assert padded.image[30, 0].tolist() == [128, 128, 128]
    assert padded.y.pixels[25] == -1


def test_lazy_masks_equal_transforming_whole_masks(shared_data):
    """Jitter, crop and flip of pixels through indices = doing it to every mask."""
    metadata, records = load(
        str(shared_data / "coco_panoptic_200/annotations/panoptic_val2017.json")
    )
    steps = [RandomFlip(1.0), ResizeScale(0.4, 0.6, 512, 512), FixedSizeCrop((256, 256))]
    record = records[0]
    sample = views_of(metadata, "panoptic", steps)(record, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    rng.random()
    factor, (h, w) = rng.uniform(0.4, 0.6), record.size
    scale = min(512 * factor / h, 512 * factor / w)
    new = (int(np.round(w * scale)), int(np.round(h * scale)))
    u = rng.random()
    frame, kept = record.frames[0], 0
    for segment in (s for s in frame.segments if not s.crowd):
        whole = masks.decode(masks.to_rle(segment, frame, record.size)).astype(np.uint8)
        resized = Image.fromarray(whole[:, ::-1]).resize(new, Image.Resampling.NEAREST)
        resized = np.asarray(resized)
        y, x = (round(max(edge - 256, 0) * u) for edge in resized.shape)
        plain = np.zeros((256, 256), bool)
        window = resized[y : y + 256, x : x + 256]
        plain[: window.shape[0], : window.shape[1]] = window
        if plain.any():
            assert np.array_equal(sample.targets.masks[kept, 0].numpy(), plain)
            kept += 1
    assert kept == len(sample.targets.labels)


def test_polygons_and_crowds_of_coco(shared_data):
    path = shared_data / "coco_polygons_mini"
    metadata, records = load(str(path / "instances.json"))
    crowds = sum(s.crowd for r in records for s in r.frames[0].segments)
    assert (len(records), crowds) == (24, 17)
    for record in records[:4]:
        whole = views_of(metadata, steps=[])(record, np.random.default_rng(0))
        flipped = views_of(metadata, steps=[RandomFlip(1.0)])(record, np.random.default_rng(0))
        both = whole.targets.masks.flip(-1) == flipped.targets.masks
        assert both.float().mean() > 0.999  # outlines move by a pixel, areas do not


def test_what_the_window_cuts_away_is_dropped(tiny):
    metadata, records = load("tiny_instances", Path(), [tiny[0]])
    seen = set()
    for seed in range(20):
        views = views_of(metadata, steps=[RandomCrop((12, 12)), PadTo(16)])
        sample = views(records[0], np.random.default_rng(seed))
        assert sample.targets.masks.shape[1:] == (1, 16, 16)
        assert sample.targets.masks.flatten(1).any(1).all()
        seen.add(len(sample.targets.labels))
    assert 0 in seen  # nothing left is legal


def test_same_batches_for_any_number_of_workers_and_after_a_resume(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny[0]])
    views = views_of(metadata, "panoptic")

    def batches(count, **options):
        stream = train_loader(records, views, batch_size=2, seed=1, **options)
        return [next(stream).images for _ in range(count)]

    plain = batches(6)
    for other in (batches(6, num_workers=2), batches(2) + batches(4, start=2)):
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_ranks_share_an_epoch_without_overlap():
    plans = [batch_plan(None, 10, 1, 3, rank, 2) for rank in (0, 1)]
    seen = [next(plan)[0][1] for _ in range(5) for plan in plans]
    assert sorted(seen) == list(range(10))
    wide = [i % 2 == 0 for i in range(10)]
    for batch, _ in zip(batch_plan(wide, 10, 2, 0, 0, 1), range(20), strict=False):
        assert len({wide[i] for _, i in batch}) == 1


def test_test_shares_cover_everything_once(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny[0]])
    seen = []
    for rank in range(3):
        loader = TestLoader(records, views_of(metadata), rank=rank, world_size=3, batch_size=2)
        seen += [r.id for batch in loader for r in batch.records]
    assert seen == list(range(8))


def test_worker_errors_keep_their_words(tiny, tmp_path):
    folder = tmp_path / "copy"
    catalog = make_dataset(folder, 2)
    (folder / "images" / "01.png").write_bytes(b"")
    metadata, records = load("tiny_panoptic", Path(), [catalog])
    with pytest.raises(DataError, match=r"01.png: cannot be read"):
        list(TestLoader(records, views_of(metadata), num_workers=1))


def test_metadata_of_the_standard_sets():
    for name, classes, things in (
        ("coco_2017_val", 80, 80),
        ("coco_2017_val_panoptic_with_sem_seg", 133, 80),
        ("ade20k_sem_seg_val", 150, 100),
        ("ade20k_panoptic_train", 150, 100),
        ("ade20k_instance_val", 100, 100),
        ("ade20k_full_sem_seg_val", 847, 0),
        ("cityscapes_fine_panoptic_val", 19, 8),
        ("cityscapes_fine_instance_seg_val", 8, 8),
        ("mapillary_vistas_panoptic_val", 65, 37),
        ("coco_2017_test_stuff_10k_sem_seg", 171, 0),
    ):
        metadata = Catalog(Path("nowhere")).metadata(name)
        assert (len(metadata.classes), sum(metadata.is_thing)) == (classes, things), name
        assert len(metadata.colors) == classes

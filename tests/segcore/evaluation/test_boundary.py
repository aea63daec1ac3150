"""Boundaries: against windows counted pixel by pixel, and what matching with them changes."""

from pathlib import Path

import coco_oracle
import numpy as np
import perturbed
import pytest

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.evaluation import coco_ap, instance
from segcore.evaluation.instance import InstanceEvaluator
from segcore.structures import Frame, Metadata, Record, Result, Segment

ONE = Metadata("one", ("cell",), (1,), (True,), ((0, 0, 0),))


def band(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of the mask that see outside in a square window, one by one."""
    padded = np.pad(mask, distance)
    out = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        out[y, x] = not padded[y : y + 2 * distance + 1, x : x + 2 * distance + 1].all()
    return out


@pytest.mark.parametrize(("dilation", "distance"), [(0.05, 3), (0.001, 1), (0.5, 32)])
def test_equals_a_brute_force_band(dilation, distance):
    rng = np.random.default_rng(1)
    mask = np.zeros((40, 50), bool)
    mask[5:30, 0:35] = True
    mask[rng.integers(0, 40, 20), rng.integers(0, 50, 20)] = False
    found = masks.decode(coco_oracle.boundary(masks.encode(mask[None])[0], dilation))
    assert np.array_equal(found, band(mask, distance))


def ap(truth: np.ndarray, found: np.ndarray, *, crowd: bool = False, **options) -> float:
    segment = Segment(0, masks.encode(truth[None])[0], crowd=crowd)
    record = Record(0, truth.shape, (Frame(Path("a.jpg"), (segment,)),))
    evaluator = InstanceEvaluator(ONE, **options)
    evaluator.update(Result(instances=perturbed.instances([found], [0], [0.9])), record)
    return evaluator.compute()["AP" if evaluator.kinds == ("instance",) else "boundary AP"]


@pytest.mark.parametrize("tables", [coco_ap.coco_tables, coco_oracle.coco_tables])
def test_the_smaller_of_two_overlaps_decides(tables, monkeypatch):
    monkeypatch.setattr(instance, "coco_tables", tables)
    truth = np.zeros((100, 100), bool)
    truth[10:90, 10:90] = True
    found = np.roll(truth, 2, 1)
    # 80 x 78 of 80 x 82 shared: .951; ring of 3 pixels: counted below
    a, b = band(truth, 3), band(found, 3)
    overlap = (a & b).sum() / (a | b).sum()
    passed = sum(overlap >= t - 1e-9 for t in np.arange(0.5, 1, 0.05))
    assert 0 < passed < 10
    assert ap(truth, found) == pytest.approx(100)
    assert ap(truth, found, kinds=("boundary",)) == pytest.approx(10 * passed)


def test_small_objects_are_all_boundary():
    truth = np.zeros((400, 400), bool)
    truth[50:60, 50:60] = True
    found = np.roll(truth, 2, 0)
    assert ap(truth, found) == ap(truth, found, kinds=("boundary",))


def test_the_width_is_what_the_data_set_says(root):
    assert InstanceEvaluator(ONE).dilation == 0.02
    city = Catalog(root).metadata("cityscapes_fine_instance_seg_val")
    assert city.boundary_dilation == 0.005
    assert InstanceEvaluator(city).dilation == 0.005
    assert InstanceEvaluator(city, dilation=0.03).dilation == 0.03
    assert Metadata.from_dict(city.to_dict()) == city
    coco = Catalog(root).metadata("coco_2017_val")
    assert coco.boundary_dilation == 0.02

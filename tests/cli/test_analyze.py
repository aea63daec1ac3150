"""What a model costs."""

import pytest
from tiny import make_dataset

from segcore.cli import analyze

CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
CROPS += ["ENTITY.FUSE_ENC_DIM_FEEDFORWARD", "32", "INPUT.MIN_SIZE_TEST", "32"]


def costs(capsys, *opts):
    """The printed title, and the numbers of each part: millions, GFLOP, milliseconds."""
    opts = [*opts, "MODEL.DEVICE", "cpu"]
    analyze.main(config_file="tiny/panoptic_tiny.yaml", opts=opts, size=(128, 160), repeat=1)
    title, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in x.split("│")[1:-1]] for x in lines if x.startswith("│")]
    return title.strip(), {name: [float(x or 0) for x in numbers] for name, *numbers in rows}


def test_analyze_counts_every_part(capsys, tmp_path):
    title, parts = costs(capsys, "DATASETS.CATALOGS", f"[{make_dataset(tmp_path)}]")
    assert title == "128x160"
    whole = parts.pop("whole model")
    assert list(parts) == ["normalise", "backbone", "pixel_decoder", "decoder", "postprocess"]
    assert sum(p[0] for p in parts.values()) == pytest.approx(whole[0], abs=0.02)
    assert sum(p[1] for p in parts.values()) == pytest.approx(whole[1], abs=0.2)
    assert whole[1] > 0


def test_analyze_gives_cropformer_all_its_views(capsys):
    title, five = costs(capsys, *CROPS)
    assert title == "128x160, 5 views of this size"
    title, one = costs(capsys, *CROPS, "ENTITY.CROP_SAMPLE_NUM_TEST", "0")
    assert title == "128x160"
    assert five["backbone"][1] == pytest.approx(5 * one["backbone"][1], abs=0.3)
    assert sum(five[name][1] for name in ("backbone", "pixel_decoder", "decoder")) == pytest.approx(
        five["whole model"][1], abs=0.2
    )

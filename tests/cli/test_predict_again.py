"""`segcore predict` into a folder that has results: which are done, and what is never mixed."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_dataset

from segcore.build.data import catalog as catalog_of
from segcore.build.data import train_metadata
from segcore.build.task import build_task
from segcore.cli import predict
from segcore.config import load_config
from segcore.errors import DataError

CONFIG = "tiny/panoptic_tiny.yaml"
OPTIONS = {"config_file": CONFIG, "threshold": 0.5, "batch_size": 1, "num_crops": None}
OPTIONS |= {"overwrite": False, "refine": None}


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    catalog = make_dataset(tmp_path_factory.mktemp("data"))
    return ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]


@pytest.fixture(scope="module")
def weights(opts, tmp_path_factory):
    """Two checkpoints of the same config, and their folder."""
    folder, cfg = tmp_path_factory.mktemp("weights"), load_config(CONFIG, opts)
    metadata = train_metadata(cfg, catalog_of(cfg))
    for seed in (1, 2):
        torch.manual_seed(seed)
        task = build_task(cfg, metadata)
        content = {"model": task.official(task.model.state_dict()), "metadata": metadata.to_dict()}
        torch.save(content, folder / f"{seed}.pth")
    return folder


@pytest.fixture
def segment(opts, weights, tmp_path, capsys):
    """Run it on in/ into out/; what it printed."""
    pixels = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        picture = Image.fromarray(pixels.integers(0, 256, (32, 40, 3), np.uint8))
        picture.save(tmp_path / "in" / name)

    def run(*more, inputs=("in",), file=weights / "1.pth", **options):
        named = {"inputs": [str(tmp_path / name) for name in inputs], "output": tmp_path / "out"}
        named |= {"weights": str(file), "opts": [*opts, *more]}
        assert predict.main(**OPTIONS | named | options) == 0
        return capsys.readouterr().out

    return run


def results(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_again_does_nothing_whatever_changes_no_result(segment, weights, tmp_path):
    segment()
    before = results(tmp_path / "out")
    shutil.copy(weights / "1.pth", tmp_path / "moved.pth")
    for more, options in (
        ([], {}),
        (["SOLVER.MAX_ITER", "7", "OUTPUT_DIR", "elsewhere"], {"batch_size": 2}),
        ([], {"file": tmp_path / "moved.pth"}),
    ):
        assert "2 of 2 are done already" in segment(*more, **options)
        assert results(tmp_path / "out") == before


@pytest.mark.slow
def test_other_weights_settings_and_thresholds_are_done_anew(segment, weights, tmp_path):
    segment()
    for more, options, said in (
        ([], {"file": weights / "2.pth"}, "weights"),
        ([], {"threshold": 0.1}, "confidence threshold"),
        (["INPUT.MIN_SIZE_TEST", "96"], {}, "settings"),
    ):
        printed = segment(*more, **options)
        assert f"2 of 2 were made with other {said}" in printed
        assert "2 images done" in printed
        again = results(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        segment(*more, **options)
        assert results(tmp_path / "out") == again  # as in a folder of their own
        shutil.rmtree(tmp_path / "out")
        segment()


def test_new_weights_under_the_old_name_are_others(segment, weights, tmp_path):
    shutil.copy(weights / "1.pth", tmp_path / "last.pth")
    segment(file=tmp_path / "last.pth")
    shutil.copy(weights / "2.pth", tmp_path / "last.pth")
    assert "2 of 2 were made with other weights" in segment(file=tmp_path / "last.pth")


def test_files_that_the_other_model_alone_made_go(segment, tmp_path):
    segment()
    assert (tmp_path / "out/a_semantic.png").exists()
    segment("MODEL.MASK_FORMER.TEST.SEMANTIC_ON", "false")
    assert not list((tmp_path / "out").glob("*_semantic.png"))
    assert (tmp_path / "out/a_panoptic.png").exists()


def test_results_of_other_images_by_other_weights_raise(segment, weights, tmp_path):
    segment(inputs=("in/a.jpg",))
    before = results(tmp_path / "out")
    message = r"holds results of 1 other images, made with other weights \(first: .*a.json\); name"
    with pytest.raises(DataError, match=message):
        segment(inputs=("in/b.jpg",), file=weights / "2.pth")
    assert results(tmp_path / "out") == before
    segment(inputs=("in/b.jpg",))
    assert json.loads((tmp_path / "out/b.json").read_text())["made_by"]["weights"]


def test_results_that_do_not_say_what_made_them_are_done_anew(segment, tmp_path):
    segment()
    for name in ("a.json", "b.json"):
        content = json.loads((tmp_path / "out" / name).read_text())
        del content["made_by"]
        (tmp_path / "out" / name).write_text(json.dumps(content))
    assert "2 of 2 were made with other weights" in segment()
    assert "2 of 2 are done already" in segment()

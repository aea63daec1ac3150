"""`segcore train --overfit N`: a few images, nothing but a test's resize, and what the end says."""

import json
import logging
import re

import numpy as np
import pytest
from tiny import make_dataset
from tiny_runs import CONFIG, train_net

from segcore.cli.overfit import log_verdict, overfit_words
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.engine.best import Best
from segcore.errors import ConfigError


def test_images_are_left_alone_and_the_training_set_is_evaluated():
    file = "ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml"
    given = ["SOLVER.MAX_ITER", "70", "OUTPUT_DIR", "out", "INPUT.MIN_SIZE_TEST", "300"]
    cfg = load_config(file, overfit_words(file, given, count=5, ranks=2))
    assert cfg.DATASETS.TRAIN == cfg.DATASETS.TEST == ["ade20k_sem_seg_train"]
    data = cfg.INPUT
    assert (data.RANDOM_FLIP, data.COLOR_AUG_SSD, data.CROP.ENABLED) == ("none", False, False)
    assert (data.MIN_SIZE_TRAIN, data.MAX_SIZE_TRAIN) == ([300], data.MAX_SIZE_TEST)
    assert data.SIZE_DIVISIBILITY == -1
    assert cfg.SOLVER.MAX_ITER == 70  # what the user says holds
    assert cfg.SOLVER.IMS_PER_BATCH == 4  # of 5 images, over two ranks
    assert cfg.OUTPUT_DIR == "out/overfit"


def test_the_scale_of_large_scale_jitter_is_one():
    file = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
    cfg = load_config(file, overfit_words(file, [], count=100, ranks=1))
    assert (cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE) == (1.0, 1.0)
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    assert cfg.DATASETS.TEST == ["coco_2017_train_panoptic"]


def test_no_training_set_raises():
    with pytest.raises(ConfigError, match=r"--overfit: DATASETS\.TRAIN is empty"):
        overfit_words(CONFIG, ["DATASETS.TRAIN", "[]"], 2, 1)


def test_a_catalogue_gives_the_first_records_with_an_annotation(tmp_path):
    file = make_dataset(tmp_path)
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    records = Catalog(tmp_path, [file], first=2).records("tiny_instances")
    assert [record.id for record in records] == [0, 2]
    assert len(Catalog(tmp_path, [file]).records("tiny_instances")) == 8


@pytest.mark.parametrize(
    ("value", "level", "text"),
    [
        (97.0, logging.INFO, "PQ 97.00 on the 4 images that it learnt, of about 100"),
        (40.0, logging.WARNING, "should come near 100: .*MAX_ITER 1000.*segcore doctor 'mine'"),
        (np.nan, logging.WARNING, "no metric"),
    ],
)
def test_the_verdict_says_how_near_to_100_it_came(caplog, value, level, text):
    caplog.set_level(logging.INFO)
    best = Best()
    best.add({"PQ": value}, 5)
    log_verdict(best, "mine", 4, 500)
    (record,) = caplog.records
    assert record.levelno == level
    assert re.search(text, record.getMessage(), re.DOTALL)


@pytest.mark.slow
def test_two_images_are_learnt(tmp_path):
    make_dataset(tmp_path / "data")
    words = ("SOLVER.MAX_ITER", "120", "SEED", "1", "MODEL.DEVICE", "cpu")
    done = train_net(tmp_path / "run", *words, flags=["--overfit", "2"])
    assert "on the 2 images that it learnt, of about 100" in done.stdout
    best = json.loads((tmp_path / "run/overfit/best.json").read_text())
    assert best["metric"] == "PQ" and best["value"] > 90

"""Which images need most memory, and what they take."""

import os
import re
import signal
from dataclasses import replace

import pytest
import torch
from tiny import make_dataset

from segcore.build.task import build_task
from segcore.cli import analyze_memory
from segcore.cli.worst_images import Images, drawn_batch, worst_tests, worst_train
from segcore.config import load_config
from segcore.data.store import Records
from segcore.structures import Frame, PngId, Record, Segment

CONFIG = "tiny/panoptic_tiny.yaml"


def record(height, width, count):
    """A still with as many segments, and a crowd, which is no target."""
    segments = [Segment(0, PngId(i)) for i in range(count)] + [Segment(0, PngId(99), crowd=True)]
    return Record(f"{height}x{width}", (height, width), (Frame("a.png", tuple(segments)),))


RECORDS = Records([record(100, 100, 2), record(100, 150, 7), record(50, 200, 5), record(90, 60, 1)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """KEY VALUE pairs, the config and its task."""
    catalog = make_dataset(tmp_path_factory.mktemp("tiny"))
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]
    cfg = load_config(CONFIG, opts)
    return opts, cfg, build_task(cfg)


def test_worst_batch_is_the_widest_with_the_tallest_and_has_the_most_segments(tiny, tmp_path):
    _, cfg, task = tiny
    # shorter edge 64: 64x64, 64x96, 64x256 and 96x64; the wide ones are padded to 64x256
    images = worst_train(cfg, task, RECORDS, 3)
    assert images.sizes[1] == (50, 200)
    assert images.segments == (7, 5, 2)
    batch = drawn_batch(task, images, tmp_path, train=True)
    assert batch.images.shape == (3, 1, 3, 64, 256)
    assert [len(t.labels) for t in batch.targets] == [7, 5, 2]


def test_worst_single_image_has_the_most_pixels_after_the_cap(tiny):
    _, cfg, task = tiny
    capped = replace(cfg, INPUT=replace(cfg.INPUT, MAX_SIZE_TRAIN=100))
    # 64x64, 64x96, 25x100, 96x64: 64x96 and 96x64 have the most; the first one by size counts
    images = worst_train(capped, task, RECORDS, 1)
    assert images.sizes == ((90, 60),)
    assert images.segments == (7,)


def test_worst_test_images_are_the_largest_for_the_model_and_the_largest_file(tiny):
    _, cfg, task = tiny
    assert worst_tests(cfg, task, RECORDS) == [
        Images(((50, 200),), (0,)),  # 64x256
        Images(((100, 150),), (0,)),
    ]


@pytest.mark.slow
def test_memory_of_a_step_and_an_inference_is_printed(tiny, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert analyze_memory.main(config_file=CONFIG, opts=tiny[0], num_gpus=1) == 0
    out = capsys.readouterr().out
    assert "no GPU is used" in out
    rows = [[c.strip() for c in x.split("│")[1:-1]] for x in out.splitlines() if x[:1] == "│"]
    assert [row[:3] for row in rows] == [
        ["training step", "4 x 64x80, up to 3 segments", "4x1x3x64x96"],
        ["inference", "1 x 64x80", "1x1x3x64x96"],
    ]
    assert all(float(row[3]) > 0 and float(row[6]) > 0 for row in rows)


def out_of_gpu_memory(cfg, task, batch, fabric):
    raise torch.OutOfMemoryError("CUDA out of memory")


def out_of_cpu_memory(cfg, task, batch, fabric):
    torch.empty(1 << 60, dtype=torch.uint8)  # more than any machine has


def killed(cfg, task, batch, fabric):
    os.kill(os.getpid(), signal.SIGKILL)  # as a system does that has no memory left


def wrong(cfg, task, batch, fabric):
    raise RuntimeError("the model is wrong")


def analyze(tiny, step, inference):
    runs = {analyze_memory.STEP: step, analyze_memory.INFERENCE: inference}
    return analyze_memory.main(config_file=CONFIG, opts=tiny[0], num_gpus=1, runs=runs)


@pytest.mark.slow
def test_what_does_not_fit_is_said_with_advice_and_the_next_part_still_runs(
    tiny, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "160")
    assert analyze(tiny, out_of_gpu_memory, out_of_cpu_memory) == 1
    out = capsys.readouterr().out
    rows = [[c.strip() for c in x.split("│")[1:-1]] for x in out.splitlines() if x[:1] == "│"]
    assert [[row[0], *row[2:4]] for row in rows] == [
        ["training step", "4x1x3x64x96", "does not fit"],
        ["inference", "1x1x3x64x96", "does not fit"],
    ]
    step, inference = out.splitlines()[-2:]
    assert step.startswith("training step of 4 x 64x80") and "SOLVER.IMS_PER_BATCH" in step
    assert inference.startswith("inference of 1 x 64x80") and "TEST.BATCH_SIZE" in inference


@pytest.mark.slow
def test_a_process_that_is_killed_does_not_fit_and_another_error_raises(tiny, capfd):
    with pytest.raises(RuntimeError, match=re.escape("the inference of 1 x 64x80 failed")):
        analyze(tiny, killed, wrong)
    assert "the model is wrong" in capfd.readouterr().err

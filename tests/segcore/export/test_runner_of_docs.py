"""The runner that docs/export.md shows, on files with results, against our own post-processing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mask2former.build import build
from segcore import masks as mask_io
from segcore.cli.export import export
from segcore.config import load_config
from segcore.export import openvino_file
from segcore.export.facts import Wanted
from segcore.export.graph import drawn_input
from segcore.export.read import read_exported
from segcore.structures import Batch, Frame, Metadata, Record

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("box", "disc", "ring")
CLASSES = Metadata("drawn", NAMES, (3, 7, 9), (True,) * 3, ((9, 8, 7), (1, 2, 3), (4, 5, 6)))
SIZE = (64, 96)  # its shorter edge is INPUT.MIN_SIZE_TEST, so nothing is resized


def runner():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    return code


def test_the_runner_is_short_and_needs_no_torch():
    assert len(runner().splitlines()) <= 30
    assert not re.search(r"torch|segcore import|import segcore", runner())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model in both formats, a photograph, and what post-processing makes of it."""
    folder = tmp_path_factory.mktemp("runner")
    cfg = load_config(ROOT / "configs/tiny/instance_tiny.yaml")
    torch.manual_seed(3)
    task = build(cfg, CLASSES)
    task.model.eval()
    export(cfg, task, Wanted(size=SIZE, post=True), "onnx", folder / "model.onnx")
    facts = read_exported(folder / "model.onnx").facts
    openvino_file.write(folder / "model.onnx", folder / "model.xml", facts)
    pixels = drawn_input(Wanted(size=None), SIZE)[0][0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / "photo.png")
    record = Record(1, SIZE, (Frame(folder / "photo.png"),))
    batch = Batch.collate([task.views(record, None)])
    (result,) = task.postprocess(task.infer(batch, torch.device("cpu")), batch)
    return folder, result.instances


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_the_runner_prints_our_results(files, name):
    folder, instances = files
    (folder / "run.py").write_text(runner())
    words = [sys.executable, "run.py", name, "photo.png", "0.01"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    wanted = [
        (NAMES[label], float(score), int(mask_io.area([mask])[0]))
        for score, label, mask in zip(
            instances.scores, instances.labels.tolist(), instances.masks, strict=True
        )
        if score > 0.01
    ]
    assert len(rows) == len(wanted) > 3
    assert [row[0] for row in rows] == [one[0] for one in wanted]
    assert [float(row[1]) for row in rows] == pytest.approx([one[1] for one in wanted], abs=2e-4)
    assert all(abs(int(row[2]) - one[2]) <= 3 for row, one in zip(rows, wanted, strict=True))

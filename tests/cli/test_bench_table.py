"""`segcore bench`: who runs, what its table says, and that files say what our model says."""

import json

import pytest
from rich.console import Console

from segcore.cli import bench, bench_contenders, bench_job, bench_names
from segcore.config import load_config
from segcore.errors import ConfigError

CONFIG = "tiny/instance_tiny.yaml"
OPTS = ("DATASETS.TRAIN", "[coco_2017_val]", "DATASETS.TEST", "[]", "MODEL.DEVICE", "cpu")
R50 = "coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml"
CROPS = "entityv2/entity_segmentation/cropformer_swin_tiny_3x.yaml"


def text_of(table):
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(bench_names, "find_spec", lambda name: name not in ("onnx", "transformers"))
    names, lacking = bench_names.names_of(load_config(R50), on_cpu=True)
    assert names[:2] == ["image: ours, fp32", "image: ours, bf16"]
    assert not [name for name in names if "ours" not in name and name != "segcore --help"]
    assert "pip install transformers" in lacking[0]
    assert all("onnx not installed" in x and "segcore[export]" in x for x in lacking[1:])
    assert len(lacking) == 3


def test_everybody_who_is_installed_runs_on_a_cpu(monkeypatch):
    monkeypatch.setattr(bench_names, "find_spec", lambda name: True)
    names, lacking = bench_names.names_of(load_config(R50), on_cpu=True)
    assert not lacking
    assert {"image: OpenVINO, bf16", "image: ONNX Runtime, fp32"} < set(names)
    assert {"image: transformers, compiled, bf16", "step: transformers, fp32"} < set(names)
    on_gpu, left_out = bench_names.names_of(load_config(R50), on_cpu=False)
    assert len(left_out) == 2 and not [x for x in on_gpu if "OpenVINO" in x]


def test_transformers_has_no_cropformer(monkeypatch):
    monkeypatch.setattr(bench_names, "find_spec", lambda name: True)
    names, lacking = bench_names.names_of(load_config(CROPS), on_cpu=True)
    assert not [name for name in names if "transformers" in name]
    assert lacking == ["transformers has no such network: it is not beside ours"]


def test_the_table_has_medians_ratios_ends_and_failures(capsys):
    ours = bench.Row(name="image: ours, fp32", runs=[(2.0, 4.0), (1.0, 2.0), (9.0, 3.0)], peak=800)
    ours.parts = {"backbone": 250.0, "whole model": 1000.0}
    theirs = bench.Row(name="image: transformers, fp32", runs=[(5.0, 10.0)], peak=1700.4)
    broken = bench.Row(name="step: ours, fp32", failed=True)
    rows = [ours, theirs, broken]
    lines = text_of(bench.table_of(rows, {"image": "800x1216"})).splitlines()
    cells = [[x.strip() for x in line.strip("│").split("│")] for line in lines if "│" in line]
    assert cells[0] == [
        *("image 800x1216", "ours, fp32", "results", "2.00", "1.00", "9.00", "1.00x", "3.00", "800")
    ]
    assert cells[1][2:4] == ["upsampled masks", "5.00"]
    assert cells[1][6:] == ["2.50x", "10.00", "1700"]
    assert cells[2][3] == "failed, see above"
    bench.print_parts(rows)
    assert capsys.readouterr().out.startswith("image: ours, fp32: backbone 25 %, the rest (reading")


def test_a_word_that_is_in_no_name_raises():
    with pytest.raises(ConfigError, match=r"--only nobody.*image: ours, fp32"):
        bench.main(
            config_file=CONFIG, opts=OPTS, only=["nobody"], size=(64, 96), step_size=64, repeat=1,
            threads=0, json=None,
        )  # fmt: skip


@pytest.mark.slow
def test_an_exported_contender_has_our_weights(tmp_path):
    """Results of random weights are equal only where the weights are."""
    pytest.importorskip("onnxruntime")
    job = bench_job.Job(CONFIG, OPTS, (64, 96), 64, 1)
    who = "ONNX Runtime, fp32"
    bench_contenders.write_exported(f"image: {who}", job, str(tmp_path))
    exported = bench_job.exported_file(f"image: {who}", str(tmp_path))
    runs = [
        bench_contenders.inference(who, job.size, job, exported),
        bench_contenders.inference("ours, fp32", job.size, job),
    ]
    theirs, ours = (run()[0] for run in runs)  # type: ignore[index]
    assert ours.instances.scores.sub(theirs.instances.scores).abs().max() < 1e-4
    assert ours.instances.labels.equal(theirs.instances.labels)


@pytest.mark.slow
def test_processes_are_measured_and_written(tmp_path):
    file = tmp_path / "bench.json"
    status = bench.main(
        config_file=CONFIG, opts=OPTS, only=["ours, fp32"], size=(64, 96), step_size=128, repeat=2,
        threads=1, json=file,
    )  # fmt: skip
    written = json.loads(file.read_text())
    assert status == 0 and [x["name"] for x in written["rows"]] == [
        *("image: ours, fp32", "step: ours, fp32")
    ]
    for row in written["rows"]:
        assert len(row["runs"]) == 2 and min(x for run in row["runs"] for x in run) > 0
        assert row["peak"] > 50 and {"backbone", "decoder", "whole model"} < row["parts"].keys()

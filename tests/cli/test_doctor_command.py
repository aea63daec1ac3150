"""`segcore doctor` as it is called: data sets, a config over them, and what the shell is told."""

from __future__ import annotations

import json

import pytest
from tiny import make_dataset

from segcore.cli import doctor
from segcore.errors import ConfigError


@pytest.fixture
def data(tmp_path):
    make_dataset(tmp_path)
    return f"{tmp_path}/instances.json@{tmp_path}/images"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.json@b", "coco_2017_val"], (["a.json@b", "coco_2017_val"], [])),
        (["a.json", "INPUT.MIN_SIZE_TEST", "24"], (["a.json"], ["INPUT.MIN_SIZE_TEST", "24"])),
        (["SEED", "1"], ([], ["SEED", "1"])),
        (["MY_DATA/a.json", "Data.json"], (["MY_DATA/a.json", "Data.json"], [])),
    ],
)
def test_names_end_where_keys_begin(words, expected):
    assert doctor.split_names(words) == expected


def test_keys_without_a_config_raise(data):
    with pytest.raises(ConfigError, match=r"SEED is a key of a config; .* --config FILE"):
        doctor.main(names=[data, "SEED", "1"])
    with pytest.raises(ConfigError, match="no data set is named"):
        doctor.main(names=[])


def test_a_config_brings_its_data_sets(data, root, capsys):
    config = str(root / "configs/tiny/instance_tiny.yaml")
    sets = ["DATASETS.TRAIN", f"[{data}]", "DATASETS.TEST", f"[{data}]"]
    opts = [*sets, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "1"]
    assert doctor.main(names=opts, config_file=config) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"{data}: 8 images") == 2  # examined once: a heading, and the survey
    assert "there are 1, and nothing is learnt of the objects beyond" in printed
    assert doctor.main(names=opts, config_file=config, strict=True) == 1


def test_sound_data_is_followed_by_the_next_command(data, tmp_path, capsys):
    assert doctor.main(names=[data]) == 0
    assert f"make a recipe for it: segcore plan {data}\n" in capsys.readouterr().out
    next((tmp_path / "images").iterdir()).unlink()
    assert doctor.main(names=[data]) == 1
    assert "segcore plan" not in capsys.readouterr().out


def test_videos_are_not_sent_to_a_plan_that_refuses_them(shared_data, capsys):
    clips = shared_data / "davis16_clips/train"
    assert doctor.main(names=[f"{clips}/instances.json@{clips}/JPEGImages"]) == 0
    assert "segcore plan" not in capsys.readouterr().out


def test_strict_counts_warnings(data, tmp_path, capsys):
    assert doctor.main(names=[data], strict=True) == 0
    file = tmp_path / "instances.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = []
    file.write_text(json.dumps(content))
    assert doctor.main(names=[data]) == 0
    assert doctor.main(names=[data], strict=True) == 1
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│ warning" in line]
    cells = [[cell.strip() for cell in row[1:]] for row in rows]
    assert [row[:2] + row[3:4] for row in cells] == 2 * [["warning", "box without a mask", "1"]]
    assert cells[0][2].startswith(tmp_path.name[:12])
    assert cells[0][4].startswith("instances.json: annotation 1")
    content["annotations"][0]["category_id"] = 99
    file.write_text(json.dumps(content))
    assert doctor.main(names=[data]) == 1


def test_training_and_test_set_are_compared(data, tmp_path, capsys):
    """The same images in both; other classes."""
    other = f"{tmp_path}/panoptic.json@{tmp_path}/images"
    assert doctor.main(names=[data, other], images=True) == 1
    printed = capsys.readouterr().out
    assert "image of another data set: 8 (what was trained on must not test" in printed
    assert "other classes: 1 (one class list for both" in printed
    assert doctor.main(names=[data, other]) == 1  # files of one name need not be read for that
    assert "what was trained on must not test" in capsys.readouterr().out


def test_an_image_broken_inside_is_seen_where_pixels_are_read(data, tmp_path, capsys):
    path = tmp_path / "images/03.png"
    content, half = path.read_bytes(), len(path.read_bytes()) // 2
    path.write_bytes(content[:half])  # half copied: its end says it
    assert doctor.main(names=[data]) == 1
    assert "file that cannot be read: 1\n" in capsys.readouterr().out
    path.write_bytes(content[:half] + bytes(40) + content[half + 40 :])
    assert doctor.main(names=[data]) == 0
    assert doctor.main(names=[data], images=True) == 1
    printed = capsys.readouterr().out
    assert "image that cannot be read to its end: 1\n" in printed
    assert f"{path}: cannot be read as an image" in printed
    path.unlink()
    assert doctor.main(names=[data], images=True) == 1
    printed = capsys.readouterr().out  # its head says it already
    assert "file that cannot be read: 1\n" in printed and "to its end" not in printed


def test_the_report_has_samples_as_training_sees_them(data, tmp_path, root, capsys):
    report = tmp_path / "made" / "report.html"
    config = str(root / "configs/tiny/instance_tiny.yaml")
    assert doctor.main(names=[data], config_file=config, report=report) == 0
    assert f"report: {report}\n" in capsys.readouterr().out
    text = report.read_text()
    assert "Samples as training sees them" in text and text.count("data:image/jpeg") == 12
    assert doctor.main(names=[data], report=report) == 0
    text = report.read_text()
    assert "Random images" in text and text.count("data:image/jpeg") == 8
    assert not list(report.parent.glob("*.tmp"))

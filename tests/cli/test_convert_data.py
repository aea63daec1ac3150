"""`segcore convert` as it is called: what it prints, what it refuses, and its status."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from converted import contents
from drawn_shapes import make_shapes

from segcore.cli.main import main

PROGRAM = "from segcore.cli.main import main; main(prog_name='segcore')"


def convert(*words):
    """The status, and what is printed to both streams."""
    answer = CliRunner().invoke(main, ["convert", *map(str, words)])
    return answer.exit_code, answer.output


@pytest.fixture
def source(tmp_path):
    return make_shapes(tmp_path / "in", hard=True)


@pytest.mark.slow
def test_the_command_converts_there_and_back(tmp_path):
    source = make_shapes(tmp_path / "in")
    there = f"{tmp_path}/cvat/annotations/train.xml"
    for words, last in (
        ([source, tmp_path / "cvat", "--to", "cvat"], f"{there}: 3 images, 6 segments"),
        ([there, tmp_path / "yolo", "--to", "yolo"], ": 3 images, 6 segments"),
    ):
        command = [sys.executable, "-c", PROGRAM, "convert", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        count, following = done.stdout.splitlines()
        assert count.endswith(last)
        assert following == f"look at it: segcore doctor {count.rpartition(': ')[0]}"
    assert contents(f"{tmp_path}/yolo/data.yaml") == contents(source)


@pytest.mark.parametrize(
    ("format", "lost"),
    [
        ("coco_panoptic", ["  lost: 1 segments partly or wholly under others"]),
        ("yolo", ["  lost: 1 crowd regions, left out"]),
        ("coco_instances", []),
    ],
)
def test_what_a_format_cannot_hold_is_printed(source, tmp_path, format, lost):
    status, printed = convert(source, tmp_path / "out", "--to", format)
    lines = printed.splitlines()
    assert status == 0
    assert re.fullmatch(rf"{tmp_path}/out/.*: 3 images, 8 segments", lines[0])
    assert [line for line in lines if "lost" in line] == lost


def test_a_split_that_is_there_is_never_written_over(source, tmp_path):
    out = tmp_path / "out"
    assert convert(source, out, "--to", "yolo")[0] == 0
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    status, printed = convert(source, out, "--to", "yolo")
    assert status == 1
    assert printed.startswith(f"error: {out}/images/train: is there already; choose another")
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    status, printed = convert(source, out, "--to", "yolo", "--split", "val", "--link")
    assert (status, f"{out}/data.yaml@val: 3 images" in printed) == (0, True)
    assert (out / "images/val/two.png").is_symlink()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--to", "pascal"], 1, "error: --to pascal: cannot be written; there are coco_panoptic, "),
        (["--to", "lvis"], 1, "error: --to lvis: cannot be written; "),
        (["--to", "yolo", "--split", "a/b"], 1, "error: --split 'a/b': expected a word, such as"),
        ([], 2, "Missing option '--to'"),
    ],
)
def test_words_that_mean_nothing_write_nothing(source, tmp_path, words, status, message):
    code, printed = convert(source, tmp_path / "out", *words)
    assert code == status
    assert message in printed
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_raises_an_error_of_one_line(tmp_path):
    status, printed = convert(tmp_path / "gone.json", tmp_path / "out", "--to", "yolo")
    assert status == 1
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_faults_of_the_source_are_listed_and_the_status_is_1(source, tmp_path):
    file = tmp_path / "in/shapes.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 99
    file.write_text(json.dumps(content))
    status, printed = convert(source, tmp_path / "out", "--to", "labelme")
    assert status == 1
    assert "3 images, 7 segments" in printed
    assert "99" in printed
    assert printed.endswith("2 problems\n")  # and a polygon that leaves its image


def test_help_says_what_is_lost_and_which_formats_there_are():
    status, printed = convert("--help")
    assert status == 0
    assert printed.startswith("Usage: main convert [OPTIONS] SOURCE OUTPUT")
    for words in ("--to FORMAT", "[required]", "[default: train]", "--link", "docs/formats.md"):
        assert words in printed

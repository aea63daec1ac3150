"""The notebook's cells run in their order, without Jupyter, on fewer pictures and steps."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from segcore.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/own_data.ipynb"
FEWER = (  # what takes minutes
    ("--train 200 --val 40", "--train 6 --val 2 --size 96"),
    ("--minutes 3", "--minutes 1"),
    ("plan.yaml\nprint", "plan.yaml SOLVER.IMS_PER_BATCH 1 MODEL.MASK_FORMER.DEC_LAYERS 2\nprint"),
    ('output="run"', 'output="run", SOLVER={"MAX_ITER": 2}, MODEL={"DEVICE": "cpu"}'),
    ("val/00008.jpg", "val/00001.jpg"),
)
LARGEST = 600_000  # bytes


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shell(line):
    """A line of a cell that begins with an exclamation mark."""
    words = shlex.split(line)
    program = {
        "python": [sys.executable],
        "segcore": [sys.executable, "-m", "segcore.cli.main"],
    }[words[0]]
    subprocess.run([*program, *words[1:]], check=True)


def test_the_notebook_is_small_and_has_its_outputs():
    content = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert NOTEBOOK.stat().st_size < LARGEST
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


def test_commands_and_links_of_the_notebook_exist():
    text = "\n".join(code_cells())
    assert set(re.findall(r"^!segcore ([\w-]+)", text, re.MULTILINE)) <= main.commands.keys()
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#:]+)\)", prose)
    assert links
    assert not [link for link in links if not (NOTEBOOK.parent / link).exists()]


@pytest.mark.slow
def test_cells_of_the_notebook_run(tmp_path, monkeypatch):
    code = "\n".join(code_cells())
    for theirs, ours in FEWER:
        assert theirs in code
        code = code.replace(theirs, ours)
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    display = ModuleType("IPython.display")
    shown = []
    display.Image = lambda data=None, *, filename=None, width: shown.append(
        data or Path(filename).read_bytes()
    )
    python = ModuleType("IPython")
    python.version_info = (9, 0)  # which matplotlib asks for
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    )
    monkeypatch.chdir(tmp_path / "docs")
    names = {"shell": shell}
    exec(re.sub(r"^!(.*)$", lambda line: f"shell({line[1]!r})", code, flags=re.MULTILINE), names)
    assert len(shown) == 2
    assert all(content[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0") for content in shown)
    assert {"PQ", "AP", "mIoU"} <= names["run"].metrics.keys()
    assert names["result"].plot().size == (96, 96)

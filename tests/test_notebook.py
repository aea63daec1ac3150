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
import yaml

from segcore.cli.main import main
from segcore.cli.train_call import words_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/own_data.ipynb"
SMALLER = {  # laid over the plan
    "SOLVER": {"IMS_PER_BATCH": 1, "MAX_ITER": 2},
    "MODEL": {"DEVICE": "cpu", "MASK_FORMER": {"DEC_LAYERS": 2}},
}
FEWER = (  # what takes minutes, or finds nothing after two steps
    ("--train 200 --val 40", "--train 6 --val 2 --size 96"),
    ("--output plan.yaml", f"--output plan.yaml {' '.join(words_of(SMALLER))}"),
    ('output="run"', f'output="run", **{SMALLER}'),
    ("val/00008.jpg", "val/00001.jpg"),
    ("threshold=0.5", "threshold=0.0"),
    # a panoptic map may be empty after two steps; instances there are always
    ("run.weights)", 'run.weights, ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "false"])'),
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


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """In a folder of its own, without Jupyter: what IPython's Image is given."""
    pictures = []
    python, display = ModuleType("IPython"), ModuleType("IPython.display")
    python.version_info = (9, 0)  # which matplotlib asks for
    display.Image = lambda data=None, *, filename=None, width: pictures.append(
        data or Path(filename).read_bytes()
    )
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    path = os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    monkeypatch.chdir(tmp_path / "docs")
    return pictures


@pytest.mark.slow
def test_cells_of_the_notebook_run(shown):
    code = "\n".join(code_cells())
    for theirs, ours in FEWER:
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {"shell": shell}
    exec(re.sub(r"^!(.*)$", lambda line: f"shell({line[1]!r})", code, flags=re.MULTILINE), names)
    assert [content[:4] for content in shown] == [b"\x89PNG", b"\xff\xd8\xff\xe0"]
    run, result, detections = names["run"], names["result"], names["detections"]
    assert {"PQ", "AP", "mIoU"} <= run.metrics.keys()
    assert run.weights.is_file() and names["page"].is_file()
    assert "INPUT" in yaml.safe_load(Path("plan.yaml").read_text())
    assert result.plot().size == (96, 96)
    assert detections.mask.shape == (len(result.to_coco()), 96, 96)
    assert len(detections) > 0

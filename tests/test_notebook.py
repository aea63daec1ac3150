"""The notebook is small, has its outputs, and names what exists."""

import json
import re
from pathlib import Path

from segcore.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/own_data.ipynb"
LARGEST = 600_000  # bytes


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


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

"""What the documents name is there."""

import re
from pathlib import Path

import pytest

from segcore.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.py|\.yaml|\.md))`")
VERB = re.compile(r"^segcore ([a-z][a-z-]+)", re.MULTILINE)


def test_the_plan_of_the_house_names_files_that_exist():
    names = PATH.findall((ROOT / "docs/architecture.md").read_text())
    assert len(names) > 40
    folders = [ROOT, ROOT / "segcore", *(ROOT / name for name in ("mask2former", "maskrefine"))]
    missing = [name for name in names if not any((folder / name).exists() for folder in folders)]
    assert not missing


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "docs/architecture.md",
        "docs/refiners.md",
        "docs/training.md",
        "docs/video.md",
        "docs/export.md",
        "docs/doctor.md",
        "docs/formats.md",
        "docs/plan.md",
        "datasets/README.md",
    ],
)
def test_commands_that_documents_name_exist(file):
    code = re.findall(r"```bash\n(.*?)```|`([^`\n]+)`", (ROOT / file).read_text(), re.DOTALL)
    verbs = {verb for pair in code for text in pair for verb in VERB.findall(text)}
    assert verbs
    assert verbs <= main.commands.keys()


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert not [link for link in links if not (ROOT / link).exists()]

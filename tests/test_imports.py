"""The floors of the house: a package imports only from the floors below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "segcore": set(),
    "mask2former": {"segcore"},
    "cropformer": {"segcore", "mask2former"},
    "maskrefine": {"segcore"},
}
GROUND = {"structures", "contracts", "errors", "labels", "masks", "shipped", "whole_file"}
INSIDE_SEGCORE = {  # the same rule among segcore's own parts
    "errors": set(),
    "shipped": {"errors"},
    "structures": set(),
    "schema": set(),
    "whole_file": set(),
    "config": {"errors", "schema", "shipped", "whole_file"},
    "contracts": {"structures", "errors"},
    "labels": {"structures", "errors"},
    "masks": {"structures", "labels"},
    "nn": GROUND,
    "data": GROUND,
    "evaluation": GROUND,
    "engine": GROUND,
}
DOORS = {  # third parties, and the only places that may import them
    "lightning": ("segcore/engine/",),
    "omegaconf": ("segcore/config.py",),
    "pycocotools": ("segcore/masks.py", "segcore/evaluation/"),
    "timm": ("segcore/nn/backbones.py",),
    "vernier": ("segcore/evaluation/",),
    "torchvision": ("maskrefine/regions.py",),
    "detectron2": ("segcore/bridges/",),
}
READS_CONFIG = ("segcore/config.py", "segcore/predict.py")
FILES = [p for package in MAY_IMPORT for p in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full path"
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards_and_through_their_doors(path: Path):
    here = path.relative_to(ROOT)
    package, names = here.parts[0], imported(path)
    used = {name.split(".")[0] for name in names} & MAY_IMPORT.keys()
    assert used <= MAY_IMPORT[package] | {package}, f"{here} imports {used}"
    if package == "segcore" and (part := here.parts[1].removesuffix(".py")) in INSIDE_SEGCORE:
        inside = {n.split(".")[1] for n in names if n.startswith("segcore.")}
        assert inside <= INSIDE_SEGCORE[part] | {part}, f"{here} imports {inside}"
    for third, doors in DOORS.items():
        if any(n.split(".")[0].split("_")[0] == third for n in names):
            assert str(here).startswith(doors), f"{here} imports {third}; its door is {doors}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_stays_in_its_files(path: Path):
    here = path.relative_to(ROOT)
    builds = here.name == "build.py" or here.parts[:2] == ("segcore", "build")
    if str(here) in READS_CONFIG or builds:
        return
    names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
    names |= {n.arg for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.arg)}
    assert not names & {"cfg"}, f"{here} reads the config; pass plain values"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_and_files_stay_small(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"

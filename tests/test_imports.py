"""The floors of the house: a module imports only from the floors below it, and stays small."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {  # the packages; segcore/cli, tools/ and train_net.py stand above them all
    "segcore": set(),
    "mask2former": {"segcore"},
    "cropformer": {"segcore", "mask2former"},
    "maskrefine": {"segcore"},
}
TOP = ("segcore.cli", "tools", "train_net")
GROUND = {
    *("contracts", "errors", "file_names", "image_file", "import_path", "label_files", "labels"),
    *("masks", "pinned", "query_rows", "segment_rle", "shipped", "structures", "user_path"),
    "whole_file",
}
PAINT = {"label_font", "painting", "segment_colors"}
INSIDE_SEGCORE = {  # the same rule among segcore's own parts
    "errors": set(),
    "shipped": {"errors", "user_path"},
    "user_path": set(),
    "file_names": set(),
    "structures": set(),
    "keys": {"errors"},
    "schema": {"keys"},
    "import_path": {"errors"},
    "pinned": set(),
    "query_rows": set(),
    "architectures": {"errors", "import_path", "keys", "schema"},
    "config_files": {"errors", "shipped", "user_path"},
    "whole_file": {"file_names"},
    "config": {
        *("architectures", "config_files", "errors", "import_path", "keys", "schema"),
        *("shipped", "user_path", "whole_file"),
    },
    "contracts": {"structures", "errors"},
    "image_file": set(),
    "label_files": {"errors", "image_file"},
    "labels": {"structures", "errors", "label_files"},
    "masks": {"structures"},
    "segment_rle": {"structures", "labels", "masks"},
    "nn": GROUND,
    "data": GROUND,
    "plan": {*GROUND, "data"},
    "doctor": {*GROUND, "data", "html_page", "painting", "visualize"},
    "report": {*GROUND, "data", "evaluation", "html_page", *PAINT},
    "evaluation": GROUND,
    "export": {*GROUND, "nn"},
    "engine": GROUND,
    "predictions": {*GROUND, "data", "evaluation"},
    "video": GROUND,
}
DOORS = {  # third parties, and the only places that may import them
    "av": ("segcore/data/video_file.py",),
    "click": ("segcore/cli/flags.py", "segcore/cli/main.py"),
    "datumaro": ("segcore/data/formats/from_datumaro.py",),
    "detectron2": ("segcore/bridges/",),
    "lightning": ("segcore/engine/",),
    "onnx": ("segcore/export/onnx_file.py",),
    "onnxruntime": ("segcore/export/onnx_file.py",),
    "onnxscript": ("segcore/export/onnx_file.py",),
    "nncf": ("segcore/export/int8.py",),
    "matplotlib": ("segcore/engine/curves.py", "segcore/report/plots.py"),
    "omegaconf": ("segcore/config.py",),
    "openvino": ("segcore/export/openvino_file.py",),
    "pycocotools": ("segcore/masks.py", "segcore/evaluation/"),
    "supervision": ("segcore/image_result.py",),
    "timm": ("segcore/nn/backbones.py", "segcore/nn/prepared_timm.py"),
    "torchvision": ("maskrefine/regions.py", "tools/bench_detector.py"),  # the latter beside ours
    "trackeval": ("segcore/evaluation/track_identity.py",),
    "vernier": ("segcore/evaluation/",),
}
READS_CONFIG = ("segcore/build/", "segcore/cli/", "segcore/config.py", "segcore/predict.py")
SCRIPTS = [ROOT / "train_net.py", ROOT / "train_net_video.py"]
DEEPEST = 8  # modules below the one that is run
FILES = {
    folder: sorted((ROOT / folder).rglob("*.py"))
    for folder in (*MAY_IMPORT, "tools", "datasets", "tests", "ops")
} | {"": [ROOT / "setup.py", *SCRIPTS]}
CODE = [p for folder in (*MAY_IMPORT, "tools") for p in FILES[folder]] + SCRIPTS
EVERY = [path for files in FILES.values() for path in files]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    return shown(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module(path): path for path in CODE}


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of modules, also of those that `from package import module` names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full path"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & MODULES.keys() or {node.module}
    return frozenset(names)


@cache
def chain(name: str) -> tuple[str, ...]:
    """The longest way down from a module."""
    below = [chain(other) for other in imported(MODULES[name]) if other in MODULES]
    return (name, *max(below, key=len, default=()))


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_imports_go_downwards_and_through_their_doors(path: Path):
    name, names = module(path), imported(path)
    package, top = name.split(".")[0], name.startswith(TOP)
    if not top:
        used = {n.split(".")[0] for n in names} & {*MAY_IMPORT, "tools", "train_net"}
        assert used <= MAY_IMPORT[package] | {package}, f"{name} imports {used}"
        assert not [n for n in names if n.startswith(TOP)], f"{name} imports from above"
    if package == "segcore" and (part := name.partition(".")[2].split(".")[0]) in INSIDE_SEGCORE:
        inside = {n.split(".")[1] for n in names if n.startswith("segcore.")}
        assert inside <= INSIDE_SEGCORE[part] | {part}, f"{name} imports {inside}"
    for third, doors in DOORS.items():
        if any(n.split(".")[0].split("_")[0] == third for n in names):
            assert shown(path).startswith(doors), f"{name} imports {third}; its door is {doors}"


@pytest.mark.parametrize("name", MODULES)
def test_no_way_down_is_long_or_ends_where_it_began(name: str):
    try:
        way = chain(name)
    except RecursionError:
        pytest.fail(f"{name}: its imports come back to a module that imports it")
    assert len(way) <= DEEPEST + 1, " -> ".join(way)


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_config_stays_in_its_files(path: Path):
    if shown(path).startswith(READS_CONFIG) or path.stem.split("_")[-1] == "build":
        return
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    names |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    assert "cfg" not in names, f"{shown(path)} reads the config; pass plain values"


@pytest.mark.parametrize("path", EVERY, ids=shown)
def test_functions_and_files_stay_small(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_test_files_have_names_of_their_own():
    """Or pytest takes one for the other."""
    names = [
        path.name for path in FILES["tests"] if path.name not in ("__init__.py", "conftest.py")
    ]
    assert sorted(set(names)) == sorted(names)

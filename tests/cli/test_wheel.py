"""Both wheels, built and installed where nothing of the checkout can be seen."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tiny import make_dataset

FOLDERS = ("segcore", "mask2former", "cropformer", "maskrefine", "configs", "datasets")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
PREDICTOR = """
from pathlib import Path
import segcore
from segcore.predict import Predictor

name = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
predictor = Predictor(name, weights="", opts=["INPUT.MIN_SIZE_TEST", "32", "MODEL.DEVICE", "cpu"])
(result,) = predictor(["image.png"])
print(Path(segcore.__file__).parent)
print(tuple(result.panoptic.map.shape), predictor.metadata.classes[0])
"""
KERNELS = """
import sys
from segcore.nn import ms_deform_attn
print(sys.modules["MultiScaleDeformableAttention"].__file__)
"""

pytestmark = pytest.mark.slow


def strange(folder, names):
    """What a build leaves behind, and whatever data sets lie in the checkout's datasets/."""
    inside = set(names) & {"build", "__pycache__"} if Path(folder).name != "segcore" else set()
    if Path(folder).name == "datasets":
        kept = {"catalog", "classes"}
        inside |= {name for name in names if (Path(folder) / name).is_dir()} - kept
    return inside | {name for name in names if name.endswith((".so", ".egg-info"))}


def wheel(source, goal, **environment):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", goal, source],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(root, tmp_path_factory):
    source, goal = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in FOLDERS:
        shutil.copytree(root / name, source / name, ignore=strange)
    for name in FILES:
        shutil.copy(root / name, source)
    wheel(source, goal)
    if shutil.which(os.environ.get("CXX", "g++")):
        shutil.copytree(root / "ops", source / "ops", ignore=strange)
        wheel(source / "ops", goal, MSDA_CUDA="0")
    return goal


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    """Of an environment with the wheels; third parties are those of the running one."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    inner = home / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", inner, "install", "-q", "--no-deps"]
    subprocess.run([*command, "--no-index", *wheels.glob("*.whl")], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return inner


@pytest.fixture
def run(python, tmp_path, monkeypatch):
    """A command in an empty folder."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        command = [python.parent / words[0], *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_configs_and_catalogue_are_inside(run, root):
    said = run("python", "-c", "from segcore.shipped import shipped; print(shipped('configs'))")
    package = Path(said.strip()).parent
    assert "site-packages" in package.parts
    for here, there, pattern in (
        ("configs", package / "configs", "**/*.yaml"),
        ("datasets", package / "datasets", "c*/*.yaml"),
        ("datasets", package / "datasets", "*.py"),
        ("datasets", package / "datasets", "README.md"),
        ("segcore/engine", package / "engine", "*.yaml"),
    ):
        names = {path.relative_to(root / here) for path in (root / here).glob(pattern)}
        assert names
        assert names == {path.relative_to(there) for path in there.glob(pattern)}


def test_the_command_trains_and_segments(run, tmp_path):
    catalog = make_dataset(tmp_path / "data")
    assert "convert-weights" in run("segcore", "--help")
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "SOLVER.MAX_ITER", "3", "MODEL.DEVICE", "cpu"]
    said = run("segcore", "train", "tiny/panoptic_tiny.yaml", "OUTPUT_DIR", "run", *opts)
    assert "segcore predict --config-file run/config.yaml" in said
    start = ["segcore", "predict", "run/config.yaml", "--weights", "run/model_final.pth"]
    run(*start, "--input", str(tmp_path / "data/images/00.png"), "--output", "out")
    assert (tmp_path / "out/00.json").exists()


def test_a_config_by_name_makes_a_predictor(run, tmp_path):
    make_dataset(tmp_path / "data", count=1)
    shutil.move(tmp_path / "data/images/00.png", tmp_path / "image.png")
    said = run("python", "-c", PREDICTOR)
    assert "site-packages" in said
    assert "(72, 64) person" in said


def test_the_kernels_of_their_own_wheel_are_found(run, wheels, python):
    if len(list(wheels.glob("*.whl"))) < 2:
        pytest.skip("no C++ compiler")
    assert str(python.parent.parent) in run("python", "-c", KERNELS)

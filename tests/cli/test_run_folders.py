"""Runs and their folders: two at a time, folders below the home, long names, consoles."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import make_dataset

from segcore.cli import evaluate, train
from segcore.cli.evaluate import folder_of
from segcore.cli.main import main
from segcore.config import load_config
from segcore.errors import ConfigError

CONFIG = "tiny/panoptic_tiny.yaml"
MACHINES = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
SHORT = ["SOLVER.MAX_ITER", "1", "MODEL.DEVICE", "cpu"]


@pytest.fixture(autouse=True)
def as_it_was():
    """Environment variables, which a run sets for its whole process."""
    variables = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data")).parent


def opts(data, folder, *more):
    return ["OUTPUT_DIR", str(folder), "DATASETS.CATALOGS", f"[{data}/tiny.yaml]", *SHORT, *more]


def test_no_gpu_is_the_cpu_and_the_output_lies_below_home(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = opts(data, "~/runs/one", "MODEL.DEVICE", "auto", "DATASETS.TEST", "[]")
    machines = MACHINES | {"num_gpus": 0}
    assert train.main(config_file=CONFIG, opts=given, resume=False, **machines) == 0
    folder = tmp_path / "runs/one"
    assert (folder / "model_final.pth").exists()
    stored = load_config(folder / "config.yaml")
    assert ("cpu", str(folder)) == (stored.MODEL.DEVICE, stored.OUTPUT_DIR)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert not (folder / "in_use.lock").exists()


def test_test_sets_of_long_or_equal_names_have_folders_of_their_own(data, tmp_path):
    long = tmp_path / ("x" * 200) / ("y" * 200)
    long.mkdir(parents=True)
    for name in ("images", "panoptic", "panoptic.json"):
        (long / name).symlink_to(data / name)
    name = f"{long}/panoptic.json@{long}/images"
    given = opts(data, tmp_path / "run", "DATASETS.TEST", json.dumps([name]))
    assert train.main(config_file=CONFIG, opts=given, resume=False, **MACHINES) == 0
    (metrics,) = (tmp_path / "run" / "inference").glob("*/metrics.json")
    assert "PQ" in json.loads(metrics.read_text(), parse_constant=pytest.fail)
    names = ["a/b.json", "a_b.json", "c"]
    assert len({folder_of(name, names) for name in names}) == 3
    assert folder_of("c", names) == "c"
    assert folder_of("a/b.json", ["a/b.json"]) == "a_b.json"


HOLDER = """
import sys
from pathlib import Path
from segcore.engine.folder_lock import only_run_in
with only_run_in(Path(sys.argv[1]), "OUTPUT_DIR"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_a_folder_raises(data, tmp_path, root):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == b"held\n"
        for verb in (train, evaluate):
            with pytest.raises(ConfigError, match=r"OUTPUT_DIR .*: another run is at work there"):
                verb.main(config_file=CONFIG, opts=opts(data, tmp_path), resume=False, **MACHINES)
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.slow
def test_a_console_without_the_signs_of_a_class_name_has_the_rest(data, tmp_path, root):
    text = (data / "instances.json").read_text().replace('"disc"', '"口"')
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "segcore.cli.main", "doctor", f"{tmp_path}/a.json@{data}/images"],
        cwd=root, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\\u53e3" in done.stdout.decode("cp1252")


def test_every_path_of_a_flag_may_begin_with_the_sign_of_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.json").write_text("[]")
    done = CliRunner().invoke(main, ["measure", "~/own.json", "nowhere", "--catalogs=~/c.yaml"])
    assert f"{tmp_path}/c.yaml" in str(done.exception) + done.output


@pytest.mark.slow
def test_the_first_of_two_runs_ends_well_and_a_killed_one_is_resumed(data, tmp_path, root):
    def start(*more):
        words = ["segcore.cli.main", "train", CONFIG, *opts(data, tmp_path, *more)]
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=root, stderr=subprocess.PIPE, text=True
        )

    more = ["SOLVER.MAX_ITER", "100000", "DATASETS.TEST", "[]", "SOLVER.CHECKPOINT_PERIOD", "5"]
    first = start(*more, "DATALOADER.NUM_WORKERS", "1")
    while not list(tmp_path.glob("model_*.pth")):
        assert first.poll() is None
        time.sleep(0.05)
    second = start("DATASETS.TEST", "[]")
    assert "another run is at work there (process" in second.communicate()[1]
    assert second.returncode == 1
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = start("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]", "--resume")
    assert third.wait() == 0, third.communicate()[1]
    assert Path(tmp_path / "model_final.pth").exists()

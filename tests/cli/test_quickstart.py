"""The quickstart's files."""

import importlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from argparse import Namespace

import pytest

from segcore.cli import train


def test_a_second_quickstart_keeps_the_curves(monkeypatch, tmp_path, root):
    """Lines of training go on where they were; metrics.json has the results."""
    monkeypatch.syspath_prepend(root / "tools")
    quickstart = importlib.import_module("quickstart")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/scenes.yaml").touch()
    numbers = dict.fromkeys(("PQ", "AP", "mIoU"), 50.0)

    def train(out, opts):
        with (out / "metrics.json").open("a") as stream:
            stream.write('{"iteration": 20}\n')
        folder = out / "inference/scenes_val"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(numbers))

    monkeypatch.setattr(quickstart, "train", train)
    monkeypatch.setattr(quickstart, "pictures", lambda out, opts: [out / "pictures/0.png"])
    monkeypatch.setenv("DETECTRON2_DATASETS", "")  # which main sets
    for count in (1, 2, 3):
        quickstart.main(Namespace(output=tmp_path, train=1, val=1, opts=[]))
        assert (tmp_path / "training.jsonl").read_text() == '{"iteration": 20}\n' * count
        assert json.loads((tmp_path / "metrics.json").read_text()) == numbers


def test_the_next_command_can_be_pasted_where_a_path_has_blanks(monkeypatch, tmp_path, root):
    monkeypatch.syspath_prepend(root / "tools")
    quickstart = importlib.import_module("quickstart")
    monkeypatch.setattr(sys, "executable", "/my work/.venv/bin/python")
    words = shlex.split(quickstart.predict_command(tmp_path / "my run/model_final.pth"))
    assert words[0] == "/my work/.venv/bin/segcore"
    assert words[-1] == str(tmp_path / "my run/model_final.pth")


def test_the_training_is_of_the_quickstarts_own_process(monkeypatch, tmp_path, root, capsys):
    monkeypatch.syspath_prepend(root / "tools")
    quickstart = importlib.import_module("quickstart")
    asked = {}

    def stopped(**given):
        asked.update(given, process=os.getpid(), words=list(sys.argv))
        return 128 + signal.SIGTERM

    monkeypatch.setattr(quickstart.training, "main", stopped)
    monkeypatch.setattr(sys, "argv", ["quickstart.py"])
    with pytest.raises(SystemExit, match=r"training stopped; .*make quickstart"):
        quickstart.train(tmp_path, ["OUTPUT_DIR", str(tmp_path)])
    assert asked["process"] == os.getpid()
    assert asked["resume"]
    assert train.resuming(asked["words"]).startswith(f"python {root}/train_net.py --config-file")


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
child.wait()
"""
CHILD = """
import os, time
from segcore.engine.children import end_with_parent
end_with_parent(0.05)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_a_killed_parent(root):
    """As the training of `make quickstart` does where make is killed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], cwd=root, stdout=subprocess.PIPE, text=True
    )
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended

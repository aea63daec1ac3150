"""The quickstart's files."""

import importlib
import json
from argparse import Namespace


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

"""From nothing to a trained panoptic model on this machine: draw scenes, train, evaluate, draw.

make quickstart
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path

from draw_scenes import draw_all

from segcore.cli.flags import accept_any_console
from segcore.data.catalog import Catalog
from segcore.data.images import read_image
from segcore.engine.children import end_with_parent
from segcore.errors import NonFiniteError, UserError
from segcore.evaluation.writers import write_json, write_png
from segcore.painting import side_by_side
from segcore.predict import Predictor
from segcore.user_path import user_path
from segcore.visualize import draw, ground_truth

training = import_module("segcore.cli.train")  # as the command takes it: when it is asked for
ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/quickstart/panoptic_lite0.yaml"
NUM_PICTURES = 8


def train(out: Path, opts: list[str]) -> None:
    """As train_net.py does it; goes on if it was stopped before.

    In this process: who ends the quickstart ends its training.
    """
    words = [str(ROOT / "train_net.py"), "--config-file", str(CONFIG), "--resume", *opts]
    print("$", shlex.join(words), flush=True)
    sys.argv = words  # from which the training says how to go on
    machines = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
    try:
        stopped = training.main(config_file=str(CONFIG), opts=opts, resume=True, **machines)
    except (UserError, NonFiniteError, OSError) as problem:
        sys.exit(f"error: {problem}")
    if stopped:
        sys.exit(f"training stopped; its log is {out / 'log.txt'}; `make quickstart` goes on")


def pictures(out: Path, opts: list[str]) -> list[Path]:
    """Input, ground truth and prediction side by side, for scenes never trained on."""
    predictor = Predictor(CONFIG, out / "model_final.pth", opts)
    catalog = Catalog(out / "data", [out / "data" / "scenes.yaml"])
    metadata, records = catalog.metadata("scenes_val"), catalog.read("scenes_val")
    written = []
    for record in records[:NUM_PICTURES]:
        image = read_image(record.frames[0].file)
        truth = ground_truth(record, metadata)
        (result,) = predictor([image])
        drawn = draw(image, truth, metadata), draw(image, result, metadata, truth=truth)
        picture = side_by_side([image, *drawn], ["input", "ground truth", "prediction"])
        written.append(out / "pictures" / f"{record.frames[0].file.stem}.png")
        write_png(written[-1], picture)
    return written


def main(args: argparse.Namespace) -> None:
    start, out = time.time(), args.output.resolve()
    data = out / "data"
    if not (data / "scenes.yaml").exists():
        print(f"drawing {args.train} training and {args.val} validation scenes in {data}")
        draw_all(data, train=args.train, val=args.val, size=160)
    os.environ["DETECTRON2_DATASETS"] = str(data)
    opts = ["OUTPUT_DIR", str(out), "DATASETS.CATALOGS", f"[{data / 'scenes.yaml'}]"]
    opts += args.opts
    curves = out / "training.jsonl"
    if curves.exists():  # of an earlier run: this one goes on with them
        shutil.move(curves, out / "metrics.json")
    train(out, opts)
    written = pictures(out, opts)
    results = json.loads((out / "inference" / "scenes_val" / "metrics.json").read_text("utf-8"))
    if (out / "metrics.json").exists():  # one line a step until now: the curves of the training
        shutil.move(out / "metrics.json", curves)
    write_json(out / "metrics.json", results)
    print(
        f"\nOn {args.val} scenes never trained on, after {(time.time() - start) / 60:.1f} minutes:"
    )
    for name in ("PQ", "AP", "mIoU"):
        value = results[name]  # null where nothing of the kind was annotated
        print(f"  {name:5s}{'-' if value is None else format(value, '.1f'):>6s}")
    print(f"  metrics     {out / 'metrics.json'}\n  log         {out / 'log.txt'}")
    print(f"  checkpoint  {out / 'model_final.pth'}")
    print(f"  pictures    {written[0].parent} ({len(written)}: input, ground truth, prediction)")
    print("\nNext, your own photographs through it:")
    print(f"  {predict_command(out / 'model_final.pth')}")


def predict_command(weights: Path) -> str:
    """What is pasted into a shell, in any folder."""
    words = [str(Path(sys.executable).with_name("segcore")), "predict"]
    words += ["quickstart/panoptic_lite0.yaml", "--input", "photos/*.jpg", "--output", "out"]
    return shlex.join([*words, "--weights", str(weights)])


if __name__ == "__main__":
    accept_any_console()
    if "MAKELEVEL" in os.environ:
        end_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=user_path, default=ROOT / "output" / "quickstart")
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")
    main(parser.parse_args())

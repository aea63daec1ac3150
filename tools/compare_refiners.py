"""The mask refiners side by side: same data, same start, same schedule, several seeds.

python tools/compare_refiners.py --train TRAIN.json@IMAGES --val VAL.json@IMAGES --output out/

Trains plain Mask R-CNN and each refiner in the place of its mask head, and BPR on the plain one's
predictions of its own training images; BPR then refines its predictions of the others. Writes
`table.json`, prints it, and draws `pictures/`. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from compare_pictures import draw_comparison
from rich.console import Console
from rich.table import Table

from segcore.data.catalog import Catalog
from segcore.engine.log import memory_mb
from segcore.engine.part_times import timed_parts
from segcore.evaluation.writers import write_json
from segcore.predict import Predictor

ROOT = Path(__file__).resolve().parents[1]
DETECTORS = {  # by name: its config below configs/
    "Mask R-CNN": "small/maskrcnn_lite0.yaml",
    "Transfiner": "small/transfiner_lite0.yaml",
    "RefineMask": "small/refinemask_lite0.yaml",
}
PATCHES = "small/bpr_hrnet18s.yaml"
PLAIN, REFINED = "Mask R-CNN", "Mask R-CNN + BPR"
METRICS = ("AP", "AP50", "AP75", "boundary AP", "boundary AP75", "APs", "APm", "APl")
RESULTS = "coco_instances_results.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What all contenders share."""

    train: str
    val: str
    output: Path
    iterations: int
    patch_iterations: int
    patch_size: int
    patch_opts: tuple[str, ...]
    opts: tuple[str, ...]

    def folder(self, name: str, seed: int) -> Path:
        """Of a contender's run."""
        return self.output / f"{name.replace(' ', '_')}-{seed}"

    def results(self, name: str, seed: int) -> Path:
        """A contender's predictions of the validation images."""
        folder = self.folder(name, seed)
        (path,) = [folder / RESULTS] if name == REFINED else folder.glob(f"inference/*/{RESULTS}")
        return path


Job = tuple[str, Path, Settings, Path | None]  # config, weights, settings, weights of a refiner


def run(*words: object) -> None:
    """A command of `segcore`, as a user would type it."""
    command = [sys.executable, "-m", "segcore.cli.main", *map(str, words)]
    print("$ segcore", *words, flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit("stopped; started again, this goes on where it was")


def train_and_predict(name: str, config: str, seed: int, settings: Settings) -> dict[str, float]:
    """The metrics of a detector, whose results lie in its folder afterwards."""
    folder = settings.folder(name, seed)
    opts = ["OUTPUT_DIR", folder, "SEED", seed, "DATASETS.TRAIN", f"[{settings.train}]"]
    opts += ["DATASETS.TEST", f"[{settings.val}]", *settings.opts]
    final = folder / "model_final.pth"
    if not final.exists():
        run("train", config, "--resume", "SOLVER.MAX_ITER", settings.iterations, *opts)
    if not list(folder.glob(f"inference/*/{RESULTS}")):
        run("eval", config, *opts, "MODEL.WEIGHTS", final)
    (metrics,) = folder.glob("inference/*/metrics.json")
    return json.loads(metrics.read_text())


def refine(seed: int, settings: Settings) -> dict[str, float]:
    """The metrics of the plain detector's results after BPR, trained on its masks, as published."""
    folder, plain = settings.folder(REFINED, seed), settings.folder(PLAIN, seed)
    final, refined, after = (folder / n for n in ("model_final.pth", RESULTS, "refined.json"))
    seen = folder / "seen"  # the plain detector's predictions of its own training images
    patches = folder / "patches.npy"
    if not list(seen.glob(f"**/{RESULTS}")):
        words = ["OUTPUT_DIR", seen, "DATASETS.TEST", f"[{settings.train}]", *settings.opts]
        words += ["DATASETS.TRAIN", f"[{settings.train}]"]
        run("eval", DETECTORS[PLAIN], *words, "MODEL.WEIGHTS", plain / "model_final.pth")
    if not patches.exists():
        (coarse,) = seen.glob(f"**/{RESULTS}")
        words = ["--predictions", coarse, "--output", patches, "--size", settings.patch_size]
        run("cut-patches", settings.train, *words)
    if not final.exists():
        words = ["OUTPUT_DIR", folder, "SEED", seed, "DATASETS.TEST", "[]", *settings.patch_opts]
        words += ["DATASETS.TRAIN", f"[maskrefine.patch_store:FORMAT={patches}]"]
        words += ["SOLVER.MAX_ITER", settings.patch_iterations]
        words += ["MODEL.BPR.PATCH_SIZE", settings.patch_size]
        run("train", PATCHES, "--resume", *words)
    if not refined.exists():
        words = ["--predictions", settings.results(PLAIN, seed), "--weights", final]
        run("refine", *words, "--images", settings.val, "--output", refined)
    if not after.exists():
        kinds = ["--evaluators", "instance", "boundary"]
        run("measure", refined, settings.val, *kinds, "--output", after)
    return json.loads(after.read_text())


def cost(config: str, weights: Path, settings: Settings, refiner: Path | None) -> dict[str, float]:
    """Milliseconds an image by part, and peak memory in MB, of ten validation images."""
    refined = {"refine": refiner} if refiner else {}
    predictor = Predictor(config, weights, settings.opts, **refined)
    parts: dict[str, list[float]] = {}
    for record in Catalog(Path()).records(settings.val)[:10]:
        predict = partial(predictor, [record.frames[0].file])
        for part, spent in timed_parts(predictor.task.model, predict, 1).items():
            parts.setdefault("whole" if part == "whole model" else part, []).append(spent)
    times = {part: statistics.median(values) for part, values in parts.items()}
    return times | {"peak MB": memory_mb(predictor.device)}


def costs(seed: int, settings: Settings) -> dict[str, dict[str, float]]:
    """Of every contender, each in a process of its own, one after the other."""
    final = {name: settings.folder(name, seed) / "model_final.pth" for name in DETECTORS}

    jobs: dict[str, Job] = {
        n: (config, final[n], settings, None) for n, config in DETECTORS.items()
    }
    patches = settings.folder(REFINED, seed) / "model_final.pth"
    jobs[REFINED] = (DETECTORS[PLAIN], final[PLAIN], settings, patches)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(cost, job) for name, job in jobs.items()}


def cost_table(rows: dict[str, dict[str, float]]) -> Table:
    """A row a contender: milliseconds by part, megabytes."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    table = Table("ms an image", *parts)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[part]:.0f}" if part in row else "-" for part in parts))
    return table


def summary(rows: dict[str, list[dict[str, float]]]) -> Table:
    """Mean over seeds, and the range where there are several."""
    table = Table("", *METRICS)
    for name, runs in rows.items():
        cells = []
        for metric in METRICS:
            numbers = [each.get(metric) for each in runs]  # none: no object of that size
            values = [x for x in numbers if x is not None and x == x]
            if not values:
                cells.append("-")
                continue
            spread = f" ({min(values):.1f}..{max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}")
        table.add_row(name, *cells)
    return table


def main(settings: Settings, seeds: Sequence[int]) -> None:
    """Everything, and the table."""
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for name, config in DETECTORS.items():
            rows.setdefault(name, []).append(train_and_predict(name, config, seed, settings))
        rows.setdefault(REFINED, []).append(refine(seed, settings))
        write_json(settings.output / "table.json", {"metrics": rows})
    spent = costs(seeds[0], settings)
    write_json(settings.output / "table.json", {"metrics": rows, "costs": spent})
    Console(width=150).print(summary(rows), cost_table(spent))
    results = {name: settings.results(name, seeds[0]) for name in [*DETECTORS, REFINED]}
    records = Catalog(Path()).records(settings.val)
    written = draw_comparison(records, results, settings.output / "pictures")
    print(f"{settings.output / 'table.json'}; {len(written)} pictures in {written[0].parent}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, metavar="ANNOTATIONS@IMAGES")
    parser.add_argument("--val", required=True, metavar="ANNOTATIONS@IMAGES")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--patch-iterations", type=int, default=600)
    parser.add_argument("--patch-size", type=int, default=64, help="pixels of the image")
    parser.add_argument("--patch-opts", nargs="*", default=[], help="KEY VALUE ... of BPR alone")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")
    args = parser.parse_args()
    main(
        Settings(
            args.train,
            args.val,
            args.output.resolve(),
            args.iterations,
            args.patch_iterations,
            args.patch_size,
            tuple(args.patch_opts),
            tuple(args.opts),
        ),
        args.seeds,
    )

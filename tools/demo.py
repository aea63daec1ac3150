"""Segment images, globs and whole directories; writes a picture and the results of each.

    python tools/demo.py --config-file configs/....yaml --input 'photos/*.jpg' more.png \\
        --output out/ --opts MODEL.WEIGHTS model_final.pkl

photo.jpg becomes out/photo.png and out/photo.json, in the folders that it has below the input; two
that would share a name get longer ones. Stopped half-way, it goes on where it was: an image whose
results are there is not done again.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from demo_files import ENDINGS, Job, at, find_images, plan, refuse_overwriting
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segcore.data.images import read_image
from segcore.engine.memory import keep_freed_memory
from segcore.errors import ConfigError, DataError, WeightsError
from segcore.evaluation.writers import coco_json, id_png, panoptic_png, write_json, write_png
from segcore.predict import Predictor
from segcore.structures import Metadata, Panoptic, Result, Sample
from segcore.visualize import draw


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="YAML file of the model")
    parser.add_argument("--input", nargs="+", required=True, help="images, globs or directories")
    parser.add_argument("--output", type=Path, required=True, help="directory for all results")
    parser.add_argument("--weights", help="checkpoint; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--confidence-threshold", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument(
        "--num-crops", type=int, help="crops that CropFormer looks at; 0: the whole image alone"
    )
    parser.add_argument("--overwrite", action="store_true", help="do finished images again")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")
    return parser.parse_args()


def confident(panoptic: Panoptic, threshold: float) -> Panoptic:
    """Entities under the threshold leave the map; no score is too low for it otherwise."""
    kept = [s for s in panoptic.segments if s.score >= threshold]
    table = torch.zeros(int(panoptic.map.max()) + 1, dtype=torch.int32)
    for segment in kept:
        table[segment.id] = segment.id
    return Panoptic(table[panoptic.map], kept)


def write(result: Result, image: Path, name: Path, metadata: Metadata, threshold: float) -> None:
    """Picture first, JSON last: where the JSON is, the image is done."""
    entities = metadata.classes == ("entity",) and result.panoptic is not None
    if entities and result.panoptic is not None:
        result = replace(result, panoptic=confident(result.panoptic, threshold))
    pixels = read_image(image)
    picture = draw(pixels, result, metadata, threshold=threshold)
    write_png(at(name, ".png"), picture)
    content: dict[str, object] = {"file_name": str(image), "size": list(pixels.shape[:2])}
    if result.panoptic is not None:
        png, segments = panoptic_png(result.panoptic, metadata)
        write_png(at(name, "_panoptic.png"), png)
        content["panoptic"] = {
            "file_name": f"{name.name}_panoptic.png",
            "segments_info": segments,
        }
        if entities:  # one number a pixel, for programs that want no colours
            content["entities"] = {"file_name": f"{name.name}_entities.png"}
            write_png(at(name, "_entities.png"), id_png(result.panoptic))
    if result.instances is not None:
        found = coco_json(result, image.stem, metadata)
        content["instances"] = [x for x in found if x["score"] >= threshold]
    if result.semantic is not None:
        write_png(at(name, "_semantic.png"), result.semantic.numpy())
        content["semantic"] = {"file_name": f"{name.name}_semantic.png"}
    write_json(at(name, ".json"), content)


def batches(
    predictor: Predictor, images: list[Path], size: int, failed: list[str]
) -> Iterator[list[tuple[int, Sample]]]:
    """Read ahead in a thread; a broken image is reported and left out."""
    with ThreadPoolExecutor(2) as pool:
        ahead: list[tuple[int, Future[Sample]]] = []
        todo = iter(enumerate(images))
        batch: list[tuple[int, Sample]] = []
        while True:
            for i, image in todo:
                ahead.append((i, pool.submit(predictor.sample, image)))
                if len(ahead) > 2 * size:
                    break
            if not ahead:
                break
            i, future = ahead.pop(0)
            try:
                batch.append((i, future.result()))
            except DataError as error:
                failed.append(str(error))
                continue
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


def make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"--output {output}: cannot be a directory ({error.strerror}); name another one"
        ) from None


@contextmanager
def whole(name: Path) -> Iterator[None]:
    """All files of an image or, also after Ctrl-C, none: a PNG without JSON is never ours."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{name}: the results cannot be written ({error}); make room there and start again:"
            " what is done is not done anew"
        ) from error
    finally:
        if not at(name, ".json").exists():
            for ending in ENDINGS:
                at(name, ending).unlink(missing_ok=True)


def segment(predictor: Predictor, jobs: list[Job], args: argparse.Namespace) -> list[str]:
    """Do it; returns what was wrong with images that were left out."""
    failed: list[str] = []
    columns = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=len(jobs))
        images = [job.photo.file for job in jobs]
        for batch in batches(predictor, images, args.batch_size, failed):
            results = predictor.results([sample for _, sample in batch])
            for (i, _), result in zip(batch, results, strict=True):
                name, threshold = args.output / jobs[i].name, args.confidence_threshold
                with whole(name):
                    write(result, images[i], name, predictor.metadata, threshold)
            progress.advance(bar, len(batch))
    return failed


def main(args: argparse.Namespace) -> int:
    photos = find_images(args.input, args.output)
    refuse_overwriting(photos, args.output)
    make_folder(args.output)
    jobs = plan(photos, args.output)
    left = [job for job in jobs if args.overwrite or not job.done]
    if len(left) < len(jobs):
        print(f"{len(jobs) - len(left)} of {len(jobs)} are done already; going on")
    if not left:
        print(f"nothing left to do in {args.output}")
        return 0
    crops = [] if args.num_crops is None else ["ENTITY.CROP_SAMPLE_NUM_TEST", str(args.num_crops)]
    keep_freed_memory()
    predictor = Predictor(args.config_file, args.weights, [*crops, *args.opts])
    failed = segment(predictor, left, args)
    for message in failed:
        print(f"skipped: {message}", file=sys.stderr)
    print(f"{len(left) - len(failed)} images done, {len(failed)} skipped; see {args.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        sys.exit(main(parse_args()))
    except (ConfigError, DataError, WeightsError, OSError) as problem:
        sys.exit(f"error: {problem}")

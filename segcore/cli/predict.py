"""Segment images, globs and whole directories; write a picture and the results of each.

Stopped half-way, it goes on where it was: an image whose results are there is not done again,
unless other weights or settings have made them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segcore.cli.made_by import MadeBy, made_by
from segcore.cli.predict_files import (
    ENDINGS,
    Job,
    at,
    find_images,
    make_folder,
    plan,
    refuse_mixing,
    refuse_overwriting,
    remove_results,
)
from segcore.config import load_config
from segcore.data.images import read_image
from segcore.engine.folder_lock import only_run_in
from segcore.engine.memory import keep_freed_memory
from segcore.errors import DataError
from segcore.evaluation.writers import coco_json, id_png, panoptic_png, write_json, write_png
from segcore.predict import Predictor
from segcore.structures import Metadata, Panoptic, Result, Sample
from segcore.visualize import draw


def main(
    *,
    config_file: str,
    opts: Sequence[str],
    inputs: Sequence[str],
    output: Path,
    weights: str | None,
    threshold: float,
    batch_size: int,
    num_crops: int | None,
    overwrite: bool,
    refine: str | None,
) -> int:
    """Segment what is not done yet; 1 where an image could not be read, else 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    photos, others = find_images(list(inputs), output)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        print(f"passed over what is no image: {kinds}", file=sys.stderr)
    refuse_overwriting(photos, output)
    make_folder(output)
    crops = [] if num_crops is None else ["ENTITY.CROP_SAMPLE_NUM_TEST", str(num_crops)]
    cfg = load_config(config_file, [*crops, *opts])
    weights = cfg.MODEL.WEIGHTS if weights is None else weights
    refine = cfg.TEST.REFINE.WEIGHTS if refine is None else refine
    now = made_by(cfg, weights, refine, threshold)
    with only_run_in(output, "--output"):
        jobs = plan(photos, output, now)
        refuse_mixing(jobs, output, now)
        left = [job for job in jobs if overwrite or not job.done]
        say_what_is_there(jobs, left, output)
        if not left:
            return 0
        keep_freed_memory()
        predictor = Predictor(cfg, weights, refine=refine)
        skipped = segment(predictor, left, output, now, batch_size)
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    print(f"{len(left) - len(skipped)} images done, {len(skipped)} skipped; see {output}")
    return 1 if skipped else 0


def say_what_is_there(jobs: list[Job], left: list[Job], output: Path) -> None:
    if len(left) < len(jobs):
        print(f"{len(jobs) - len(left)} of {len(jobs)} are done already; going on")
    if not left:
        print(f"nothing left to do in {output}")
    if old := [job for job in left if job.old]:
        keys = ", ".join(dict.fromkeys(key for job in old for key in job.old))
        print(f"{len(old)} of {len(jobs)} were made with other {keys}: done anew")


def confident(panoptic: Panoptic, threshold: float) -> Panoptic:
    """Entities under the threshold leave the map; no score is too low for it otherwise."""
    kept = [s for s in panoptic.segments if s.score >= threshold]
    table = torch.zeros(int(panoptic.map.max()) + 1, dtype=torch.int32)
    for segment in kept:
        table[segment.id] = segment.id
    return Panoptic(table[panoptic.map], kept)


def write(
    result: Result,
    pixels: np.ndarray,
    *,
    image: Path,
    name: Path,
    metadata: Metadata,
    now: MadeBy,
) -> None:
    """Picture first, JSON last: where the JSON is, the image is done."""
    threshold = now["confidence_threshold"]
    entities = metadata.classes == ("entity",) and result.panoptic is not None
    if entities and result.panoptic is not None:
        result = replace(result, panoptic=confident(result.panoptic, threshold))
    picture = draw(pixels, result, metadata, threshold=threshold)
    write_png(at(name, ".png"), picture)
    content: dict[str, object] = {"made_by": now}  # first, as `noted_in` reads it
    content |= {"file_name": str(image), "size": list(pixels.shape[:2])}
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
        instances = coco_json(result, image.stem, metadata)
        content["instances"] = [x for x in instances if x["score"] >= threshold]
    if result.semantic is not None:
        write_png(at(name, "_semantic.png"), result.semantic.numpy())
        content["semantic"] = {"file_name": f"{name.name}_semantic.png"}
    write_json(at(name, ".json"), content)


def batches(
    predictor: Predictor, images: list[Path], size: int, skipped: list[str]
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
                skipped.append(str(error))
                continue
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


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


def segment(
    predictor: Predictor, jobs: list[Job], output: Path, now: MadeBy, batch_size: int
) -> list[str]:
    """Do the jobs; returns what was wrong with images that were left out."""
    skipped: list[str] = []
    columns = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=len(jobs))
        images = [job.photo.file for job in jobs]
        for batch in batches(predictor, images, batch_size, skipped):
            results = predictor.results([sample for _, sample in batch])
            for (i, _), result in zip(batch, results, strict=True):
                name = output / jobs[i].name
                pixels = read_image(images[i])
                result = predictor.refined(result, pixels)
                remove_results(name)  # another model made other files
                with whole(name):
                    write(
                        result, pixels, image=images[i], name=name, metadata=predictor.metadata,
                        now=now,
                    )  # fmt: skip
            progress.advance(bar, len(batch))
    return skipped

"""Follow objects through videos: files, or folders of frames.

Stopped half-way, it leaves what there is as a video, and goes on behind it when started again.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from segcore.cli.made_by import made_by
from segcore.cli.predict_files import at, make_folder
from segcore.cli.video_output import (
    PartWriter,
    VideoJob,
    finish,
    is_video_name,
    names_of,
    progress_of,
)
from segcore.config import load_config
from segcore.data.frame_source import FrameSource, frame_source
from segcore.data.problem import Problem
from segcore.data.video_file import encoder_for
from segcore.engine.folder_lock import only_run_in
from segcore.engine.memory import keep_freed_memory, return_freed_memory
from segcore.engine.signals import StopSignals
from segcore.errors import ConfigError, DataError
from segcore.given_image import pixels_of
from segcore.predict import Predictor
from segcore.user_path import user_path
from segcore.visualize import draw_tracks

# after which a part is closed; the masks of one are in memory
PART_SECONDS, PART_FRAMES, PART_BYTES = 60, 250, 4 << 20


def main(
    *,
    config_file: str,
    opts: Sequence[str],
    videos: Sequence[str],
    output: Path,
    weights: str | None,
    threshold: float,
    batch_size: int,
    num_crops: int | None,
    overwrite: bool,
    refine: str | None,
    window: int,
    overlap: int,
    fps: float,
    save_frames: bool,
    no_video: bool,
) -> int:
    """Segment what is not done yet; 1 where frames or videos were left out, else 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if fps <= 0:
        raise ConfigError(f"--fps {fps}: expected a number of frames a second above 0")
    sources = list(dict.fromkeys(Path(os.path.abspath(user_path(video))) for video in videos))
    outputs = outputs_of(sources, output, no_video=no_video)
    crops = [] if num_crops is None else ["ENTITY.CROP_SAMPLE_NUM_TEST", str(num_crops)]
    cfg = load_config(config_file, ["TEST.BATCH_SIZE", str(batch_size), *crops, *opts])
    weights = cfg.MODEL.WEIGHTS if weights is None else weights
    refine = cfg.TEST.REFINE.WEIGHTS if refine is None else refine
    now = made_by(cfg, weights, refine, threshold)
    jobs = [
        VideoJob(source, name, video, save_frames, now, (window, overlap))
        for source, (name, video) in zip(sources, outputs, strict=True)
    ]
    with only_run_in(jobs[0].name.parent, "--output"):
        left = [job for job in jobs if is_left(job, overwrite=overwrite)]
        if len(left) < len(jobs):
            print(f"{len(jobs) - len(left)} of {len(jobs)} are done already; going on")
        if not left:
            print(f"nothing left to do in {output}")
            return 0
        keep_freed_memory()
        predictor = Predictor(cfg, weights, refine=refine)
        return segment_all(predictor, left, Fraction(fps).limit_denominator(1001))


def is_left(job: VideoJob, *, overwrite: bool) -> bool:
    """Whether it is to be done; takes away what was made otherwise."""
    job.check()
    content = job.complete
    changed = content is not None and job.changed(content)
    if changed:
        print(f"{job.tracks}: was made with other {', '.join(changed)}: done anew")
    if changed or overwrite:
        job.remove()
    return bool(content is None or changed or overwrite)


def segment_all(predictor: Predictor, jobs: Sequence[VideoJob], rate: Fraction) -> int:
    """One video after the other, whatever becomes of it; the status of the program."""
    skipped: list[str] = []
    with StopSignals() as stop:
        for job in jobs:
            try:
                source = frame_source(job.source, pixels_of, rate)
                skipped += segment(predictor, job, source, stop)
            except DataError as error:
                skipped.append(str(error))
            if stop.caught:
                break
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    return 128 + stop.caught if stop.caught else int(bool(skipped))


def outputs_of(
    videos: Sequence[Path], output: Path, *, no_video: bool
) -> list[tuple[Path, Path | None]]:
    """The name of each video's results, and the drawn video; its folder is made."""
    names = names_of(videos, output)
    suffix = output.suffix.lower() if is_video_name(output) else ".mp4"
    if not no_video:
        encoder_for(at(names[0], suffix))
    make_folder(names[0].parent)
    return [(name, None if no_video else at(name, suffix)) for name in names]


def segment(
    predictor: Predictor, job: VideoJob, source: FrameSource, stop: StopSignals
) -> list[str]:
    """Do one video, or go on with it, until its end or a signal; what was wrong with frames."""
    (window, overlap), threshold = job.windows, job.made_by["confidence_threshold"]
    progress = progress_of(job)

    def skip(problem: Problem) -> None:
        if problem.message not in progress.skipped:  # it may have been read before
            progress.skipped.append(problem.message)

    tracking = predictor.tracking(window=window, overlap=overlap, linker=progress.linker)
    frames = source.frames(skip, progress.start, progress.size)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    part, since = None, time.monotonic()
    with Bar(*columns, TimeRemainingColumn()) as bar:
        line = bar.add_task(job.name.name, total=source.count, completed=progress.done + 1)
        for tracked in tracking(frames, progress.done):
            part = part or PartWriter(job, tracked[0].index, source.rate)
            for frame in tracked:
                part.write(frame, draw_tracks(frame, predictor.metadata, threshold=threshold))
                progress.recent.append(frame.index)
                progress.size = progress.size or (frame.image.shape[0], frame.image.shape[1])
            bar.update(line, completed=progress.done + 1)
            large = len(part.rows) >= PART_FRAMES or part.bytes >= PART_BYTES
            if large or time.monotonic() - since > PART_SECONDS or stop.caught:
                part.close(progress)
                return_freed_memory()
                part, since = None, time.monotonic()
            if stop.caught:
                break
    if part is not None:
        part.close(progress)
    if progress.done < 0:
        raise DataError(f"{job.source}: has no frame that can be read; {progress.skipped}")
    finish(job, predictor.metadata, rate=source.rate, complete=not stop.caught)
    count = f" of {source.count}" if source.count else ""
    how = "stopped; the same command goes on" if stop.caught else f"{len(progress.skipped)} skipped"
    print(f"{job.tracks}: {progress.done + 1}{count} frames, {how}")
    return progress.skipped

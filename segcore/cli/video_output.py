"""What `segcore predict` writes of a video: parts while it works, then one video and its tracks.

A part is a stretch of frames: a video of its own, and a JSON with what shows in them and all that
is needed to go on behind it. A part whose JSON is there is done.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from segcore import masks
from segcore.cli.made_by import MadeBy, differing
from segcore.cli.predict_files import at, holder
from segcore.cli.video_tracks import content_of, tracks_of
from segcore.data.video_file import KINDS, VideoWriter, encoder_for, join_videos
from segcore.errors import DataError
from segcore.evaluation.writers import write_json, write_png
from segcore.structures import Metadata, Size
from segcore.video.linker import Linker
from segcore.video.stream import TrackedFrame
from segcore.whole_file import whole_file

NEVER_WRITTEN = (".3gp", ".flv", ".gif", ".m4v", ".mpeg", ".mpg", ".ogv", ".ts", ".wmv")


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video to segment, and where its results go.

    Args:
        source: the video.
        name: of the results, without an ending.
        video: the drawn one; None: there is to be none.
        save_frames: each frame is to be a picture too, in the folder `name`.
        made_by: what the results are made with, of `made_by`.
        windows: and the length and the overlap of the windows.
    """

    source: Path
    name: Path
    video: Path | None
    save_frames: bool
    made_by: MadeBy
    windows: tuple[int, int]

    @property
    def tracks(self) -> Path:
        return at(self.name, ".json")

    @property
    def parts(self) -> Path:
        return at(self.name, ".parts")

    @property
    def settings(self) -> dict[str, Any]:
        """All that the results depend on, as they say it in JSON; `noted_in` reads the first."""
        windows = {"windows": list(self.windows)}
        return {"made_by": self.made_by, "file_name": str(self.source)} | windows

    def changed(self, content: Mapping[str, Any]) -> list[str]:
        """What a JSON of this video was made with otherwise."""
        others = ("file_name", "windows")
        return [
            *differing(content.get("made_by"), self.made_by),
            *(key for key in others if content.get(key) != self.settings[key]),
        ]

    @property
    def complete(self) -> dict[str, Any] | None:
        """What the JSON says, where all of the video was done, whatever with."""
        content = content_of(self.tracks) if holder(self.tracks) == self.source else {}
        return content if content.get("complete") else None

    def check(self) -> None:
        """DataError where results would take the place of what is not theirs."""
        for target in filter(None, (self.video, self.tracks, self.parts)):
            if target.resolve() == self.source.resolve():
                raise DataError(f"{target}: its results would replace it; name another --output")
        ours = holder(self.tracks)
        strange = self.tracks if ours not in (None, self.source) else None
        if ours is None and not self.parts.exists() and self.video and self.video.exists():
            strange = self.video
        if strange is not None:
            raise DataError(f"{strange}: is there and of something else; name another --output")

    def remove(self) -> None:
        """Take away what was written, pictures excepted."""
        for path in (self.tracks, self.video, *self.part_files(""), *self.part_files(".tmp")):
            if path is not None:
                path.unlink(missing_ok=True)
        if self.parts.is_dir():
            self.parts.rmdir()

    def part_files(self, more: str = "") -> list[Path]:
        """Files of parts, in order."""
        return sorted(p for kind in (".json", ".mp4") for p in self.parts.glob(f"*{kind}{more}"))


@dataclass(slots=True)
class Progress:
    """How far a video is.

    Args:
        recent: indices of the frames that the last window may have had.
        skipped: messages about frames that were left out.
    """

    linker: Linker
    recent: deque[int]
    size: Size | None = None
    skipped: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """The last frame that was written, -1 for none."""
        return self.recent[-1] if self.recent else -1

    @property
    def start(self) -> int:
        """Where reading goes on: what comes before `done` is context."""
        return self.recent[0] if self.recent else 0


def progress_of(job: VideoJob) -> Progress:
    """As the last part says; DataError where it was begun with other settings."""
    files = [path for path in job.part_files() if path.suffix == ".json"]
    if not files:
        return Progress(Linker(job.made_by["confidence_threshold"]), deque(maxlen=job.windows[0]))
    last = content_of(files[-1])
    if changed := job.changed(last):
        raise DataError(
            f"{job.parts}: was begun with other {', '.join(changed)}; give the same to go on, or"
            " --overwrite to begin anew"
        )
    height, width = last["size"]
    recent = deque(last["recent"], maxlen=job.windows[0])
    return Progress(Linker.from_state(last["linker"]), recent, (height, width), last["skipped"])


class PartWriter:
    """One part of a video, open until it is whole.

    Args:
        first: index of its first frame.
    """

    def __init__(self, job: VideoJob, first: int, rate: Fraction) -> None:
        self.job, self.rows = job, list[dict[str, Any]]()
        self.bytes = 0  # of its masks
        self.path = job.parts / f"{first:09d}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open = ExitStack()
        self._video = None
        if job.video is not None:
            encoder = encoder_for(job.video)
            video = VideoWriter(self.path.with_suffix(".mp4"), encoder=encoder, rate=rate)
            self._video = self._open.enter_context(video)

    def write(self, frame: TrackedFrame, picture: np.ndarray) -> None:
        """One more frame and its picture (H, W, 3) uint8."""
        if self._video is not None:
            self._video.write(picture)
        if self.job.save_frames:
            write_png(self.job.name / f"{frame.index:06d}.png", picture)
        columns = (frame.ids.tolist(), frame.labels.tolist(), frame.scores.tolist())
        texts = [masks.to_text(rle) for rle in frame.masks]
        self.bytes += sum(len(text["counts"]) for text in texts)
        rows = [list(row) for row in zip(*columns, texts, strict=True)]
        self.rows.append({"index": frame.index, "tracks": rows})

    def close(self, progress: Progress) -> None:
        """Video first, JSON last."""
        self._open.close()
        content = {
            **self.job.settings,
            "size": progress.size,
            "frames": self.rows,
            "skipped": progress.skipped,
            "recent": list(progress.recent),
            "linker": progress.linker.state(),
        }
        write_json(self.path, content)


def finish(job: VideoJob, metadata: Metadata, *, rate: Fraction, complete: bool) -> None:
    """The parts as one video and one JSON of tracks; they are taken away if they are all."""
    parts = [path for path in job.part_files() if path.suffix == ".json"]
    if job.video is not None:
        join_videos([path.with_suffix(".mp4") for path in parts], job.video, rate)
    with whole_file(job.tracks, "w") as stream:
        last = content_of(parts[-1])
        head = {
            **job.settings,
            "size": last["size"],
            "frames": last["recent"][-1] + 1,
            "rate": float(rate),
            "complete": complete,
            "skipped": last["skipped"],
        }
        stream.write(json.dumps(head)[:-1] + ', "tracks": [')
        for number, track in enumerate(
            tracks_of(parts, metadata, job.made_by["confidence_threshold"])
        ):
            stream.write(("," if number else "") + "\n" + json.dumps(track))
        stream.write("\n]}\n")
    if complete:
        for path in job.part_files():
            path.unlink()
        job.parts.rmdir()


def is_video_name(output: Path) -> bool:
    """It names one video; else it is a directory, whatever dots are in its name."""
    return output.suffix.lower() in (*KINDS, *NEVER_WRITTEN) and not output.is_dir()


def names_of(videos: Sequence[Path], output: Path) -> list[Path]:
    """Where the results of each go: its own name, or a longer one where several have it."""
    if is_video_name(output):
        if len(videos) > 1:
            raise DataError(f"--output {output}: is one video, for {len(videos)} to segment")
        return [output.with_name(output.stem)]
    full = [path.name.replace(".", "_") for path in videos]
    choices = (
        [path.name if path.is_dir() else path.stem for path in videos],
        full,
        [f"{path.parent.name}_{name}" for path, name in zip(videos, full, strict=True)],
    )
    for names in choices:
        if len(set(names)) == len(names):
            return [output / name for name in names]
    raise DataError(f"--video-input: several are called {videos[0].name}; segment them one by one")

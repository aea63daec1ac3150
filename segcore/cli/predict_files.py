"""Which images `segcore predict` segments, and where the results of each go.

No image's results take the place of another's, of an image, or of a file that is not its own;
and a name once given stays, whatever images come later.
"""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segcore.cli.made_by import MadeBy, differing, noted_in
from segcore.data.folders import files_below
from segcore.data.images import IMAGE_SUFFIXES
from segcore.data.video_file import KINDS
from segcore.errors import DataError
from segcore.file_names import short_name
from segcore.image_file import is_companion
from segcore.user_path import user_path

ENDINGS = (".json", ".png", "_panoptic.png", "_entities.png", "_semantic.png")
NUM_NAMES = 4  # from the image's own to one that holds its whole path


@dataclass(frozen=True, slots=True)
class Photo:
    """An image to segment."""

    file: Path
    root: Path  # the directory that was searched; the results have the same folders below theirs

    @property
    def identity(self) -> Path:
        """The same for every way to write its path."""
        return Path(os.path.abspath(self.file))

    def names(self) -> list[Path]:
        """Names for its results, the simplest first; each depends on this image alone."""
        file, inside = self.identity, self.file.relative_to(self.root)
        inside = Path(file.name) if ".." in inside.parts else inside
        full = inside.with_name("_".join(filter(None, (file.stem, file.suffix[1:]))))
        root = Path(os.path.abspath(self.root))
        below = file.relative_to(file.anchor).with_name(full.name)
        names = (inside.with_name(file.stem), full, root.name / full, below)
        return [name.with_name(short_name(name.name)) for name in names]


@dataclass(frozen=True, slots=True)
class Job:
    """An image, and where its results go."""

    photo: Photo
    name: Path  # below the output, without an ending
    done: bool  # they are there, made by what would make them now
    old: tuple[str, ...] = ()  # what those that are there were made by otherwise

    def files(self) -> set[Path]:
        """All that may be written for it."""
        return {at(self.name, ending) for ending in ENDINGS}


def at(name: Path, ending: str) -> Path:
    """The name with an ending; dots in the name stay (frame.0001)."""
    return name.with_name(name.name + ending)


def make_folder(output: Path) -> None:
    """DataError where it is no directory and cannot be one."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"--output {output}: cannot be a directory ({error.strerror}); name another one"
        ) from None


def find_images(inputs: list[str], output: Path) -> tuple[list[Photo], Counter[str]]:
    """All images named, in order, each once, and how many other files there are, by their ending.

    What lies below the output is a result, not an image. A file that is named itself is taken
    wherever it lies, and whatever it is called.
    """
    photos: dict[Path, Photo] = {}
    others: Counter[str] = Counter()
    results = output.resolve()
    for text in inputs:
        root = path = user_path(text)
        if path.is_file():
            if path.suffix.lower() in KINDS:
                raise DataError(f"--input {text}: a video; expected images: --video-input {text}")
            photos.setdefault(Photo(path, path.parent).identity, Photo(path, path.parent))
            continue
        if path.is_dir():
            files = sorted(files_below(path))
            hits = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
            rest = [p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES]
        else:
            while any(sign in str(root) for sign in "*?["):
                root = root.parent
            hits, rest = _matching(path)
        others.update(_kind(p) for p in rest if results not in p.resolve().parents)
        if not hits:
            but = _listed(others)
            raise DataError(
                f"--input {text}: no image there{but}; give files, a glob or a directory"
            )
        for photo in (Photo(p, root) for p in hits if results not in p.resolve().parents):
            photos.setdefault(photo.identity, photo)
    if not photos:
        raise DataError(
            f"--input {' '.join(inputs)}: all images there lie below --output {output}, so they"
            " are taken for results; name another output"
        )
    return list(photos.values()), others


def _matching(pattern: Path) -> tuple[list[Path], list[Path]]:
    """Files that a glob matches, and folders."""
    hits = sorted(p for p in set(_glob(pattern)) if not is_companion(p))
    return [p for p in hits if not p.is_dir()], [p for p in hits if p.is_dir()]


def _glob(pattern: Path) -> Iterator[Path]:
    """What Python's glob finds; it would follow links in a circle, over and over."""
    parts = pattern.parts
    if "**" not in parts:
        yield from map(Path, glob.glob(str(pattern)))
        return
    place = parts.index("**")
    rest = parts[place + 1 :] or ("**",)
    for base in map(Path, glob.glob(str(Path(*parts[:place]))) if place else ["."]):
        files = list(files_below(base)) if base.is_dir() else []
        if rest == ("**",):
            yield from files
            continue
        for folder in {base, *(p for file in files for p in file.parents if base in p.parents)}:
            yield from _glob(Path(glob.escape(str(folder)), *rest))


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else path.suffix.lower() or path.name


def _listed(others: Counter[str]) -> str:
    """What else there is: " (but 3 others: .txt, .mp4)"."""
    kinds = ", ".join(kind for kind, _ in others.most_common(5))
    return f" (but {others.total()} others: {kinds})" if others else ""


def refuse_overwriting(photos: list[Photo], output: Path) -> None:
    """DataError where the results of an image, under its simplest name, would replace an image."""
    images = {photo.file.resolve() for photo in photos}
    for photo in photos:
        name = output / photo.names()[0]
        folder = name.parent.resolve()
        for target in (folder / at(name, ending).name for ending in ENDINGS):
            if target in images:
                raise DataError(
                    f"{target}: is an input that the results of {photo.file} would replace; name"
                    " another --output"
                )


def holder(file: Path) -> Path | None:
    """The image whose results a JSON file holds; the file itself if it is not one of ours."""
    content = _content(file)
    if content is None:
        return None
    name = content.get("file_name")
    return Path(os.path.abspath(name)) if isinstance(name, str) else file


def _content(file: Path) -> dict[str, Any] | None:
    """What a JSON file holds; {} where that is no object, None where there is no file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def remove_results(name: Path) -> None:
    """The JSON of an image, its picture, and the maps that the JSON names."""
    content = _content(at(name, ".json")) or {}
    maps = [part.get("file_name") for part in content.values() if isinstance(part, dict)]
    known = {at(name, ending).name for ending in ENDINGS}
    for file in [at(name, ".json").name, at(name, ".png").name, *maps]:
        if file in known:
            name.with_name(file).unlink(missing_ok=True)


def finished(photos: list[Photo], output: Path, now: MadeBy) -> list[Job]:
    """Images whose results are there, under whatever name, and whatever they were made by."""
    jobs: list[Job] = []
    taken: set[Path] = set()
    for photo in photos:
        for job in (Job(photo, name, done=True) for name in photo.names()):
            file = output / at(job.name, ".json")
            if holder(file) == photo.identity and not job.files() & taken:
                old = tuple(differing(noted_in(file), now))
                jobs.append(replace(job, done=not old, old=old))
                taken |= job.files()
                break
    return jobs


def is_free(name: Path, output: Path) -> bool:
    """Whether all files of the name are missing, or hold results of an image that is gone."""
    image = holder(output / at(name, ".json"))
    if image is not None:
        return not image.exists()
    return not any((output / at(name, ending)).exists() for ending in ENDINGS)


def refuse_mixing(jobs: list[Job], output: Path, now: MadeBy) -> None:
    """DataError where the output holds results of other images that something else has made."""
    ours = {output / at(job.name, ".json") for job in jobs}
    others = [file for file in output.rglob("*.json") if file not in ours]
    old = {file: differing(noted, now) for file in others if (noted := noted_in(file))}
    if mixed := [file for file, keys in old.items() if keys]:
        keys = dict.fromkeys(key for file in mixed for key in old[file])
        raise DataError(
            f"--output {output}: holds results of {len(mixed)} other images, made with other"
            f" {', '.join(keys)} (first: {min(mixed)}); name another --output, or remove them"
        )


def plan(photos: list[Photo], output: Path, now: MadeBy) -> list[Job]:
    """Results stay where they are; others get the simplest name that nobody else has or wants.

    Args:
        now: what results are made by.
    """
    jobs = {job.photo: job for job in finished(photos, output, now)}
    taken = {file for job in jobs.values() for file in job.files()}
    for level in range(NUM_NAMES):
        asked = [Job(p, p.names()[level], done=False) for p in photos if p not in jobs]
        wanted = Counter(file for job in asked for file in job.files())
        for job in asked:
            alone = all(wanted[file] == 1 and file not in taken for file in job.files())
            if alone and is_free(job.name, output):
                jobs[job.photo] = job
                taken |= job.files()
    for photo in photos:
        if photo not in jobs:
            raise DataError(
                f"{photo.file}: its results would have the names of others in --output {output},"
                f" even as {photo.names()[-1]}; name another output for it"
            )
    return [jobs[photo] for photo in photos]

"""What data sets hold, what is wrong with them, and what a config will make of them."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from segcore.build.data import catalog as catalog_of
from segcore.build.data import data_root
from segcore.build.recipe import build_recipe
from segcore.cli.doctor_tables import (
    report_classes,
    report_findings,
    report_more,
    report_problems,
    report_total,
)
from segcore.config import Config, load_config
from segcore.data.catalog import Catalog
from segcore.data.folders import image_folder
from segcore.data.image_names import ImageFiles
from segcore.doctor.balance import differing_classes
from segcore.doctor.chapters import SAMPLES, chapter, made_picture, random_images
from segcore.doctor.checkup import Checkup, can_be_drawn, check_up
from segcore.doctor.crops import count_crops, vanishing
from segcore.doctor.duplicates import Place, duplicates, near_images, same_files, same_images
from segcore.doctor.finding import status
from segcore.doctor.images import image_findings
from segcore.doctor.mend import mend
from segcore.doctor.page import page
from segcore.doctor.pictures import sample_picture
from segcore.doctor.pixels import Look, look_at_all
from segcore.doctor.recipe import Recipe
from segcore.errors import ConfigError, DataError
from segcore.html_page import Picture
from segcore.structures import Sample
from segcore.whole_file import whole_file

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")  # of a config, as no data set is called


def main(
    *,
    names: Sequence[str],
    catalogs: Sequence[Path] = (),
    config_file: str | None = None,
    images: bool = False,
    strict: bool = False,
    report: Path | None = None,
    fix: Path | None = None,
) -> int:
    """Examine data sets; 1 where there is an error, or a warning and `strict`.

    Args:
        names: data sets, the one that is trained on first; then KEY VALUE ... of the config.
        catalogs: more catalogue files.
        config_file: what it is for; without names its own data sets are examined.
        images: read every pixel of every image.
        report: an HTML file for all of it, with pictures.
        fix: a COCO file for what can be mended of the one data set.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    data, opts = split_names(names)
    cfg = config_of(config_file, opts)
    catalog = Catalog(data_root(), [*catalog_of(cfg).files, *catalogs] if cfg else catalogs)
    data = list(dict.fromkeys(data or ([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST] if cfg else [])))
    if not data:
        raise ConfigError("no data set is named, and no config names one in DATASETS.TRAIN")
    recipe = recipe_of(cfg, catalog, data[0])
    checkups = [check_up(catalog, name, recipe=recipe, watch=progress(name)) for name in data]
    compare_classes(checkups)
    compared = compare_images(checkups, pixels=images)
    samples = draw_samples(checkups[0], recipe) if recipe else []
    for checkup in checkups:
        if checkup.metadata is not None:
            report_classes(checkup.examination, checkup.metadata)
        report_problems(checkup.examination)
        report_more([f for f in checkup.findings if f.check not in checkup.examination.counts])
    findings = [finding for checkup in checkups for finding in checkup.findings]
    report_findings(findings)
    report_total(sum(checkup.examination.counts.total() for checkup in checkups))
    if report is not None:
        write_page(report, checkups, catalog, samples)
    if fix is not None:
        write_mended(fix, checkups, catalog, compared)
    ended = status(findings, strict=strict)
    if ended or cfg is not None:
        return ended
    if "tracks" not in catalog.entry(data[0]).format.evaluators:  # plans are made for stills
        words = [f"--catalogs={path}" for path in catalogs]
        print(f"make a recipe for it: {shlex.join(['segcore', 'plan', *data[:2], *words])}")
    return ended


def split_names(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Data sets, and KEY VALUE ... from the first word that is a key."""
    start = next((i for i, word in enumerate(words) if KEY.fullmatch(word)), len(words))
    return list(words[:start]), list(words[start:])


def config_of(config_file: str | None, opts: Sequence[str]) -> Config | None:
    """What the data is for, where somebody says so."""
    if config_file is None and opts:
        raise ConfigError(f"{opts[0]} is a key of a config; name the config: --config FILE")
    return load_config(config_file, opts) if config_file is not None else None


def recipe_of(cfg: Config | None, catalog: Catalog, first: str) -> Recipe | None:
    """Of a config, for the classes of the first data set; None where these cannot be read."""
    if cfg is None:
        return None
    try:
        metadata = catalog.metadata(first)
    except DataError:
        return None  # which the examination says
    return build_recipe(cfg, metadata)


def progress(name: str) -> Callable[..., Iterable]:
    """A bar over records."""
    return lambda records: track(records, description=f"checking {name}"[:50])


def compare_classes(checkups: Sequence[Checkup]) -> None:
    """Every other data set with the first one."""
    first = checkups[0]
    for other in checkups[1:]:
        if first.metadata is not None and other.metadata is not None:
            other.findings += differing_classes(
                other.examination.classes, other.metadata, first.metadata, first.examination.classes
            )


@dataclass(frozen=True, slots=True)
class Compared:
    """What `--fix` wants to know of the images.

    Args:
        copies: files whose pixels are those of another file: that one.
        broken: files that cannot be read to their end.
    """

    copies: dict[Path, Path]
    broken: frozenset[Path] = frozenset()


def compare_images(checkups: Sequence[Checkup], *, pixels: bool) -> Compared:
    """Look for images that are there twice, and for those that cannot be read to their end.

    Args:
        pixels: read all of them; else files alone are compared.
    """
    places = [Place(c.name, file) for c in checkups for file, _ in c.passing.files]
    looks: list[Look] = []
    if pixels:
        looks = look_at_all(
            [place.file for place in places],
            lambda looks, total: track(looks, description="reading images", total=total),
        )
        start = 0
        for checkup in checkups:
            number = len(checkup.passing.files)
            add_image_findings(checkup, looks[start : start + number])
            start += number
    same = same_images(places, looks) if pixels else same_files(places)
    found = [*duplicates(places, same, near_images(looks))]
    for checkup in checkups:
        checkup.findings += [finding for finding in found if finding.data == checkup.name]
    broken = {place.file for place, look in zip(places, looks, strict=False) if look.fault}
    return Compared({places[j].file: places[i].file for i, j in same}, frozenset(broken))


def add_image_findings(checkup: Checkup, looks: Sequence[Look]) -> None:
    """Of the files of one data set."""
    passing, problems = checkup.passing, checkup.examination.problems
    known = {problem.path for problem in problems.get("file that cannot be read", ())}
    checkup.findings += image_findings(
        passing.files, looks, passing.records, checkup.name, known=known
    )


def draw_samples(checkup: Checkup, recipe: Recipe) -> list[Picture]:
    """Samples as training sees them; what vanishes in them is a finding more."""
    pictures: list[Picture] = []
    if not can_be_drawn(checkup, recipe):
        return pictures

    def show(sample: Sample) -> None:
        if len(pictures) < SAMPLES:
            caption = f"image {sample.record.id}"
            pictures.append(made_picture(caption, lambda: sample_picture(sample, recipe.metadata)))

    counts = count_crops(checkup.passing.records, recipe, show=show)
    checkup.findings += vanishing(counts, recipe, checkup.name)
    return pictures


def write_page(
    path: Path, checkups: Sequence[Checkup], catalog: Catalog, samples: list[Picture]
) -> None:
    """The report, in the place of an earlier one."""
    chapters = [chapter(checkup, catalog, checkup.findings) for checkup in checkups]
    for made, checkup in zip(chapters, checkups, strict=True):
        made.samples, made.sampled = random_images(checkup), "Random images"
    if samples:
        chapters[0].samples, chapters[0].sampled = samples, "Samples as training sees them"
    with whole_file(path, "w") as stream:
        stream.write(page(chapters))
    print(f"report: {path}")


def write_mended(
    out: Path, checkups: Sequence[Checkup], catalog: Catalog, compared: Compared
) -> None:
    """The data set's file once more, with what can be mended mended."""
    entry = catalog.entry(checkups[0].name)
    if len(checkups) > 1 or entry.format.name != "coco_instances":
        raise ConfigError(
            f"--fix mends one COCO file of instances at a time, not {len(checkups)} data sets, the"
            f" first of them {entry.format.name}"
        )
    source = entry.source
    file_of = ImageFiles(image_folder(source.images), source.annotations)
    copies, broken = compared.copies, compared.broken
    done = mend(source.annotations, out, file_of=file_of, copies=copies, broken=broken)
    for what, count in done.most_common():
        if count:
            print(f"mended: {what}: {count}")
    again = f"{out}@{source.images}"
    left = check_up(catalog, again, watch=progress(again))
    print(f"written: {out}; {left.examination.counts.total()} problems are left in it")
    report_findings([f for f in left.findings if f.severity != "note"])
    print(f"look again: segcore doctor {again}")

"""One data set, looked at by all checks that need no pixels of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from segcore.data.catalog import Catalog
from segcore.data.doctor import Examination, examine
from segcore.data.store import Records
from segcore.doctor.balance import imbalance, mostly_crowds
from segcore.doctor.crops import fits
from segcore.doctor.finding import Finding, findings_of
from segcore.doctor.label_numbers import shifted_labels
from segcore.doctor.mirrored import mirrored_sides
from segcore.doctor.objects import Crowding, SmallObjects
from segcore.doctor.passing import Passing
from segcore.doctor.recipe import Recipe
from segcore.structures import Metadata, Record


@dataclass(slots=True)
class Checkup:
    """What is known of one data set.

    Args:
        name: of the catalogue, or a path.
        findings: those of the checks that have been made so far.
    """

    name: str
    examination: Examination
    passing: Passing
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def metadata(self) -> Metadata | None:
        """The classes; None where not even they can be read."""
        return self.examination.metadata

    @property
    def stills(self) -> bool:
        """Each record is one image."""
        return len(self.passing.files) == len(self.passing.records)


def check_up(
    catalog: Catalog,
    name: str,
    *,
    recipe: Recipe | None = None,
    watch: Callable[[Records], Iterable[Record]] = iter,
) -> Checkup:
    """Read a data set to its end, with all that can be said on the way.

    Args:
        recipe: of the config that it is for.
        watch: shows the progress over the records.
    """
    small = crowding = None
    looks = []
    if recipe is not None:
        small = SmallObjects(recipe.min_size, recipe.max_size)
        looks.append(small.look)
        if not recipe.of_labels:
            crowding = Crowding(recipe.queries, recipe.detections)
            looks.append(crowding.look)
    passing = Passing(watch, looks)
    checkup = Checkup(name, examine(catalog, name, watch=passing), passing)
    metadata, examination = checkup.metadata, checkup.examination
    data = metadata.name if metadata else name
    checkup.findings += findings_of(examination.counts, examination.problems, data)
    if metadata is None or not len(passing.records):
        return checkup
    checkup.findings += imbalance(examination.classes, metadata)
    if recipe is not None and recipe.mirrors and recipe.metadata.classes == metadata.classes:
        checkup.findings += mirrored_sides(metadata, data, recipe.swapped)
    if examination.survey is not None and not passing.labelled:
        survey = examination.survey
        checkup.findings += mostly_crowds(survey.objects, survey.crowds, metadata)
    wrong = [problem.path for problem in examination.problems.get("label values", ())]
    checkup.findings += shifted_labels(examination.classes.keys(), wrong, passing.records, metadata)
    for check in (small, crowding):
        if check is not None:
            checkup.findings += check.findings(metadata)
    return checkup


def can_be_drawn(checkup: Checkup, recipe: Recipe) -> bool:
    """Whether the recipe's training views can be drawn of a data set."""
    metadata = checkup.metadata
    return metadata is not None and fits(recipe, metadata, stills=checkup.stills)

"""Collects an evaluation's failures: numbers of every image, masks of the worst few alone."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from segcore.report.compared import DOUBT, Compare
from segcore.report.outcome import Kept, Outcome, badness, outcome_of, suspicions
from segcore.structures import Record, Result

PICTURES = 48  # of the worst images on a page
PER_CLASS = 8  # at most
SUSPECTS = 24

Reasons = dict[int, tuple[float, ...]]  # by class, and as DOUBT; the larger, the more


class OneImage(Protocol):
    """What became of an image: an Outcome of segments, or a PixelOutcome."""

    name: str
    kept: Any


Image = TypeVar("Image", bound=OneImage)


def worst_per_class(num_classes: int) -> int:
    """How many images of each class are shown."""
    return max(1, min(PER_CLASS, PICTURES // max(num_classes, 1)))


def reasons(outcome: Outcome) -> Reasons:
    """Why an image's masks may be wanted."""
    found: Reasons = {**badness(outcome)}
    if doubts := suspicions(outcome):
        found[DOUBT] = (float(outcome.scores[doubts[0]]),)
    return found


def segment_outcome(compare: Compare, result: Result, record: Record) -> Outcome:
    """Of one image, with its masks."""
    file = record.frames[0].file
    compared = compare(result, record)
    outcome = outcome_of(compared, str(file))
    outcome.kept = Kept(file, compared)
    return outcome


class FailureCollector(Generic[Image]):
    """An evaluator without metrics: `outcomes` is what a page is made of.

    Args:
        outcome_of: what became of an image, with all that its pictures need.
        reasons: why these may be wanted.
    """

    def __init__(
        self,
        outcome_of: Callable[[Result, Record], Image],
        reasons: Callable[[Image], Reasons],
        num_classes: int,
    ) -> None:
        self.outcome_of, self.reasons = outcome_of, reasons
        self.num_classes = num_classes
        self.parts: list[Image] = []  # one an image
        self._ranking = Ranking[Image](num_classes)

    def update(self, result: Result, record: Record) -> None:
        """Compare one image."""
        outcome = self.outcome_of(result, record)
        self.parts.append(outcome)
        for dropped in self._ranking.add(outcome, self.reasons(outcome)):
            dropped.kept = None

    def compute(self) -> dict[str, float]:
        """Nothing: the numbers are the evaluators' affair."""
        return {}

    def outcomes(self) -> list[Image]:
        """Of all images, in an order that does not ask which process had them."""
        return sorted(self.parts, key=lambda outcome: outcome.name)

    def ranked(self) -> dict[int, list[Image]]:
        """By class, and as DOUBT, the worst images first."""
        ranking = Ranking[Image](self.num_classes)
        for outcome in self.outcomes():
            ranking.add(outcome, self.reasons(outcome))
        return {key: [one for *_, one in rows] for key, rows in ranking.lists.items()}


def segments_collector(compare: Compare, num_classes: int) -> FailureCollector[Outcome]:
    """Of segments, compared as segcore.report.segments says."""
    return FailureCollector(partial(segment_outcome, compare), reasons, num_classes)


class Ranking(Generic[Image]):
    """The worst images of every class, and those with the surest contradictions."""

    def __init__(self, num_classes: int) -> None:
        self.most = worst_per_class(num_classes)
        self.lists: dict[int, list[tuple[tuple[float, ...], str, Image]]] = {}
        self._uses: Counter[int] = Counter()

    def add(self, outcome: Image, why: Reasons) -> list[Image]:
        """Outcomes that no list has any more, perhaps this one."""
        touched = [outcome]
        for key, reason in why.items():
            entries = self.lists.setdefault(key, [])
            entry = tuple(-x for x in reason), outcome.name, outcome
            insort(entries, entry, key=lambda e: e[:2])
            self._uses[id(outcome)] += 1
            if len(entries) > (SUSPECTS if key == DOUBT else self.most):
                touched.append(entries.pop()[2])
                self._uses[id(touched[-1])] -= 1
        return [one for one in dict.fromkeys(touched) if not self._uses[id(one)]]

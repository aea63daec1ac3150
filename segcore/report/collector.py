"""Collects an evaluation's failures: numbers of every image, masks of the worst few alone."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable

from segcore.report.compared import Compare
from segcore.report.outcome import Kept, Outcome, badness, outcome_of, suspicions
from segcore.structures import Record, Result

PICTURES = 48  # of the worst images on a page
PER_CLASS = 8  # at most
SUSPECTS = 24
DOUBT = -1  # in the place of a class: images by their surest contradiction

Entry = tuple[tuple[float, ...], str, Outcome]  # the worst come first


def worst_per_class(num_classes: int) -> int:
    """How many images of each class are shown."""
    return max(1, min(PER_CLASS, PICTURES // max(num_classes, 1)))


def reasons(outcome: Outcome) -> dict[int, tuple[float, ...]]:
    """Why an image's masks may be wanted: by class, and as DOUBT; the larger, the more."""
    found: dict[int, tuple[float, ...]] = {**badness(outcome)}
    if doubts := suspicions(outcome):
        found[DOUBT] = (float(outcome.scores[doubts[0]]),)
    return found


class FailureCollector:
    """An evaluator without metrics: `outcomes` is what a page is made of.

    Args:
        compare: of segcore.report.segments.
    """

    def __init__(self, compare: Compare, num_classes: int) -> None:
        self.compare, self.num_classes = compare, num_classes
        self.parts: list[Outcome] = []  # one an image
        self._ranking = Ranking(num_classes)

    def update(self, result: Result, record: Record) -> None:
        """Compare one image."""
        file = record.frames[0].file
        compared = self.compare(result, record)
        outcome = outcome_of(compared, str(file))
        self.parts.append(outcome)
        outcome.kept = Kept(file, compared)
        for dropped in self._ranking.add(outcome):
            dropped.kept = None

    def compute(self) -> dict[str, float]:
        """Nothing: the numbers are the evaluators' affair."""
        return {}

    def outcomes(self) -> list[Outcome]:
        """Of all images, in an order that does not ask which process had them."""
        return sorted(self.parts, key=lambda outcome: outcome.name)


class Ranking:
    """The worst images of every class, and those with the surest contradictions."""

    def __init__(self, num_classes: int) -> None:
        self.most = worst_per_class(num_classes)
        self.lists: dict[int, list[Entry]] = {}
        self._uses: Counter[int] = Counter()

    def add(self, outcome: Outcome) -> list[Outcome]:
        """Outcomes that no list has any more, perhaps this one."""
        touched = [outcome]
        for key, reason in reasons(outcome).items():
            entries = self.lists.setdefault(key, [])
            entry = tuple(-x for x in reason), outcome.name, outcome
            insort(entries, entry, key=lambda e: e[:2])
            self._uses[id(outcome)] += 1
            if len(entries) > (SUSPECTS if key == DOUBT else self.most):
                touched.append(entries.pop()[2])
                self._uses[id(touched[-1])] -= 1
        return [one for one in dict.fromkeys(touched) if not self._uses[id(one)]]


def ranked(outcomes: Iterable[Outcome], num_classes: int) -> dict[int, list[Outcome]]:
    """By class, and as DOUBT, the worst images first."""
    ranking = Ranking(num_classes)
    for outcome in outcomes:
        ranking.add(outcome)
    return {key: [outcome for *_, outcome in rows] for key, rows in ranking.lists.items()}

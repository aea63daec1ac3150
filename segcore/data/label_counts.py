"""What label images hold, counted: are there two classes to tell apart?

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from segcore.structures import Metadata


@dataclass(slots=True)
class LabelCounts:
    """Counts of some label images.

    Args:
        total: label images of the data set.
        read: how many of them were looked at.
        classes: in how many of these each class (0..K-1) occurs.
        pixels: how many there are.
        ignored: how many of them are of no class.
        values: raw values of those, where they were asked for.
    """

    total: int
    read: int = 0
    classes: Counter[int] = field(default_factory=Counter[int])
    pixels: int = 0
    ignored: int = 0
    values: frozenset[int] = frozenset()

    def trivial(self, metadata: Metadata) -> str:
        """What to say where one answer is always right; "" where there is something to learn."""
        if len(self.classes) != 1 or not self.read:
            return ""
        (k,) = self.classes
        name, share = metadata.row_names[k], 100 * self.ignored / self.pixels
        return (
            f"{metadata.name}: {name!r} is the only class in {self.read} of {self.total} label"
            f" images, {share:.0f} % of the pixels are ignored{self._values()}: a model that always"
            f" says {name!r} is never wrong, has mIoU 100, and has learnt nothing; give the other"
            f" pixels a class of their own{self._cure(metadata)}"
        )

    def refusal(self, metadata: Metadata) -> str:
        """The other classes are lost because theirs is the ignored value; "" is no such thing."""
        lost = metadata.ignore_label in self.values and len(metadata.classes) > 1
        if len(self.classes) > 1 or self.read < self.total or not lost:
            return ""
        return self.trivial(metadata) or (
            f"{metadata.name}: every pixel of {self.read} label images is ignored{self._values()}"
            f"{self._cure(metadata)}"
        )

    def _values(self) -> str:
        return f" (values {', '.join(map(str, sorted(self.values)[:5]))})" if self.values else ""

    def _cure(self, metadata: Metadata) -> str:
        """The lines of a class list that would do."""
        if len(metadata.classes) == 1:
            return f', e.g. "names": ["background", "{metadata.classes[0]}"] with its "label_map"'
        if self.values == {metadata.ignore_label}:
            value = metadata.ignore_label
            return f'; if {value} is a class, say so: "label_map": {{"0": 0, "{value}": 1}}'
        return ""

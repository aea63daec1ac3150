"""Classes that say left and right: a mirrored image shows the other one."""

from __future__ import annotations

import re
from collections.abc import Sequence

LEFT, RIGHT = "left", "right"
SHORT = {"l": "r", "r": "l"}  # as in hand_l, l_kidney, Arm.L: they count where both are there
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def sided_classes(names: Sequence[str]) -> list[str]:
    """Those that a mirrored image would teach wrongly.

    A word "left" or "right" is enough ("back_left_light", "leftHand", "Left lung"); a first or last
    word "l" or "r" counts where the class of the other side is there too.
    """
    words = [_words(name) for name in names]
    known = set(words)
    return [name for name, own in zip(names, words, strict=True) if _is_sided(own, known)]


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORDS.findall(name))


def _is_sided(words: tuple[str, ...], known: set[tuple[str, ...]]) -> bool:
    if LEFT in words or RIGHT in words:
        return True
    if len(words) < 2:
        return False
    first, last = SHORT.get(words[0]), SHORT.get(words[-1])
    others = {(first, *words[1:]) if first else (), (*words[:-1], last) if last else ()}
    return bool(others & known)

"""Classes that say left and right: a mirrored image shows the other one.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LEFT, RIGHT = "left", "right"
LONG = {LEFT: RIGHT, RIGHT: LEFT}
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


def side_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(left, right) of the `sided_classes` of which there is exactly one of the other side."""
    by_words: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        by_words.setdefault(_words(name), []).append(name)
    pairs = []
    for own, (name, *more) in by_words.items():
        there = [words for words in _other_sides(own) if words in by_words]
        if more or len(there) != 1 or not own < there[0]:  # "l" comes before "r"
            continue
        (other,) = there
        back = [words for words in _other_sides(other) if words in by_words]
        if back == [own] and len(by_words[other]) == 1:
            pairs.append((name, by_words[other][0]))
    return pairs


def mirrored_classes(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[int, ...]:
    """(K,) the class of each in a mirrored image.

    Args:
        pairs: of names that change places, each name in one of them.
    """
    other = dict(pairs) | {second: first for first, second in pairs}
    return tuple(list(names).index(other[n]) if n in other else k for k, n in enumerate(names))


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORDS.findall(name))


def _other_sides(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """What a class of the other side may be called."""
    if LEFT in words or RIGHT in words:
        return {tuple(LONG.get(word, word) for word in words)}
    if len(words) < 2:
        return set()
    first, last = SHORT.get(words[0]), SHORT.get(words[-1])
    others = {(first, *words[1:]) if first else (), (*words[:-1], last) if last else ()}
    return others - {()}


def _is_sided(words: tuple[str, ...], known: set[tuple[str, ...]]) -> bool:
    return LEFT in words or RIGHT in words or bool(_other_sides(words) & known)

"""A class list as people write it, checked: every key is known, every value of its type."""

from __future__ import annotations

from typing import Any

from segcore.data.class_list import ClassList, Color
from segcore.data.parsing.values import known_keys, typed, whole
from segcore.errors import DataError

KEYS = (
    *("names", "ids", "things", "num_things", "colors", "ignore_label", "label_map"),
    "frequencies",
)
WORDS = {  # what others call it
    "classes": "names",
    "palette": "colors",
    "ignore_index": "ignore_label",
}
LARGEST_LABEL = (1 << 24) - 1  # of three bytes
DEFAULTS = (255, 65535)  # values that are ignored where no class has them


def class_list(content: Any, where: str) -> ClassList:
    """A list of names, or an object that has `names`.

    Args:
        where: the data set or the file, for errors.
    """
    if isinstance(content, list):
        content = {"names": content}
    if not isinstance(content, dict):
        raise _no_names(content, where)
    known_keys(content, (*KEYS, *WORDS), where)
    content = {WORDS.get(key, key): value for key, value in content.items()}
    names = content.get("names")
    if not isinstance(names, list) or not names:
        raise _no_names(content, where)
    wrong = [n for n in names if type(n) not in (str, int, float) or n == ""]
    if wrong:
        raise DataError(f"{where}: {wrong[0]!r:.80} is no class name; expected a text, in quotes")
    given = {
        key: typed(content, key, kind, "the class list", where)
        for key, kind in KINDS.items()
        if content.get(key) is not None or key == "ignore_label" in content
    }
    given["ignore_label"] = _ignored(given, len(names), where)
    classes = ClassList(tuple(_name(name, where) for name in names), **given)
    _check(classes, where)
    return classes


def _name(name: str | int | float, where: str) -> str:
    """A class name; the two halves that JSON writes for a rare letter, and YAML keeps, joined."""
    try:
        return str(name).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise DataError(
            f"{where}: class name {name!r:.80} has half a letter (a surrogate without its other"
            " one), which no file can hold; write it anew"
        ) from None


def _ignored(given: dict[str, Any], K: int, where: str) -> int:
    """The pixel value that is ignored; by default the last one of 8 bits, or of 16.

    Raises DataError where a class would lose its own value to it.
    """
    label_map = given.get("label_map")
    own = range(K) if label_map is None else label_map
    label = given.get("ignore_label")
    if label is None:
        label = next((default for default in DEFAULTS if default not in own), -1)
    elif label in own:
        k = label if label_map is None else label_map[label]
        raise DataError(
            f"{where}: ignore_label {label} is the value of class {k} in the label images, which"
            " would lose every pixel; leave the class out and give the others a label_map"
            " ({value: class}, the rest is ignored), or choose an ignore_label that is no class"
        )
    return label


def is_color(value: Any) -> bool:
    """[red, green, blue] of 0..255."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(v) in (int, float) and 0 <= v <= 255 for v in value)
    )


def _no_names(content: Any, where: str) -> DataError:
    return DataError(
        f"{where}: `classes` must be a list of names, or have `names`; it is {content!r:.80}"
    )


def _numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of whole numbers")
    return tuple(whole(each) for each in value)


def _ids(value: Any) -> frozenset[int]:
    return frozenset(_numbers(value))


def _colors(value: Any) -> tuple[Color, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of [red, green, blue]")
    for color in value:
        if not is_color(color):
            raise ValueError(f"colours; {color!r:.40} is no colour, which is [red, green, blue]")
    return tuple((int(r), int(g), int(b)) for r, g, b in value)


def _label(value: Any) -> int:
    if not -1 <= (label := whole(value)) <= LARGEST_LABEL:
        raise ValueError(f"a pixel value, at most {LARGEST_LABEL}")
    return label


def _label_map(value: Any) -> dict[int, int] | None:
    if not isinstance(value, dict):
        raise ValueError("{pixel value: class}")
    labels: dict[int, int] = {}
    for key, label in value.items():  # JSON writes keys as texts
        number = _label(int(key) if isinstance(key, str) and key.isdecimal() else key)
        if number < 0:
            raise ValueError("pixel values from 0")
        labels[number] = whole(label)
    return labels or None


def _frequencies(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or any(each not in ("r", "c", "f") for each in value):
        raise ValueError("a list of r (rare), c (common) and f (frequent)")
    return tuple(value)


KINDS = {
    "ids": _numbers,
    "things": _ids,
    "num_things": whole,
    "colors": _colors,
    "ignore_label": _label,
    "label_map": _label_map,
    "frequencies": _frequencies,
}


def _check(classes: ClassList, where: str) -> None:
    """Do the parts belong together?"""
    K = len(classes.names)
    for what in ("ids", "colors", "frequencies"):
        values = getattr(classes, what)
        if values is not None and len(values) != K:
            raise DataError(f"{where}: {K} class names but {len(values)} {what}")
    if classes.ids and len(set(classes.ids)) != K:
        raise DataError(f"{where}: class ids are not unique: {sorted(classes.ids)}")
    if classes.num_things is not None and not 0 <= classes.num_things <= K:
        raise DataError(f"{where}: num_things is {classes.num_things}; expected 0 to {K}")
    for value, label in (classes.label_map or {}).items():
        if not 0 <= label < K:
            raise DataError(
                f"{where}: label_map makes pixel value {value} class {label}; expected 0..{K - 1},"
                f" one of its {K} classes; leave out what is to be ignored"
            )

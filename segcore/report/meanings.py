"""What metrics mean, one plain sentence each."""

from __future__ import annotations

import re

SIZES = {
    "s": "small objects (under 32 x 32 pixels)",
    "m": "middle-sized objects (32 x 32 to 96 x 96 pixels)",
    "l": "large objects (over 96 x 96 pixels)",
}
RARITY = {"r": "rare classes", "c": "common classes", "f": "frequent classes"}
MEANINGS = {
    "PQ": "panoptic quality: how many segments are found and how well they are cut out, in one"
    " number (SQ x RQ), averaged over classes",
    "SQ": "how well the segments that were found are cut out: their mean overlap with the truth",
    "RQ": "how many segments are found and how many predictions are right (F1 at overlap .5)",
    "mIoU": "of each class, the pixels that truth and prediction share among those that either has,"
    " averaged over classes",
    "fwIoU": "as mIoU, but classes count by their pixels: large areas decide",
    "mACC": "the share of a class's pixels that get the right class, averaged over classes",
    "pACC": "the share of all pixels that get the right class",
    "covered": "the share of the image that predictions cover",
}
AP = (
    "how many objects are found, how surely and how exactly: area under precision against recall,"
    " averaged over overlaps of .5 to .95 and over classes"
)
AVERAGE = re.compile(r"^(?P<edge>boundary )?A(?P<kind>[PR])(?P<entity>e?)(?P<rest>\w*)$")


def meaning(name: str) -> str:
    """Of a metric as evaluators call it; "" where nothing is known of it."""
    if name in MEANINGS:
        return MEANINGS[name]
    if match := re.match(r"^(PQ|SQ|RQ)_(th|st)$", name):
        which = "things (countable objects)" if match[2] == "th" else "stuff (uncountable regions)"
        return f"{match[1]} of {which} alone"
    match = AVERAGE.match(name)
    text = _average(match) if match else ""
    if not text or not match:
        return text
    text += ", whatever their class" if match["entity"] else ""
    return text + (", comparing the masks' borders instead of areas" if match["edge"] else "")


def _average(match: re.Match[str]) -> str:
    kind, rest = match["kind"], match["rest"]
    if kind == "R":
        return f"the share of objects found by the {rest} surest predictions of an image"
    if not rest:
        return AP
    if rest.isdigit():
        ease = "a rough outline will do" if rest == "50" else "the outline must fit well"
        return f"AP at overlap .{rest}: {ease}"
    if rest == "b":
        return "AP of boxes instead of masks"
    which = SIZES.get(rest) or RARITY.get(rest)
    return f"AP of {which} alone" if which else ""

"""What of an image the network sees: its size, crops, mirroring.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segcore.data.side_names import side_pairs, sided_classes
from segcore.plan.choices import TWO_STAGE
from segcore.plan.decision import Decision, rounded, rounded_up
from segcore.plan.facts import DataFacts, Machine

CELL = 4  # pixels of the finest map, on which masks are made
OBJECT_CELLS = 3  # that a small object should span
STROKE_CELLS = 2  # that a region of a thin class should be wide
OBJECT_ZOOM, STROKE_ZOOM = 2.0, 1.25  # beyond that a larger image shows nothing more
STEP = 32  # sizes are multiples of the coarsest map's stride
COMFORT = {False: 512, True: 1024}  # shorter edge up to which images are enlarged; with a GPU
LARGEST_CROP = {False: (384, 512), True: (640, 1024)}  # with queries, of a detector; with a GPU
CROP_SHARE = 0.6  # of the shorter edge, that a crop for queries shows
JITTER = {True: (0.8, 0.9, 1.0, 1.1, 1.2), False: (0.7, 0.85, 1.0, 1.15, 1.3)}  # of a detector
SHOWN = 3
FEW = 200  # images: of fewer, augmentations that no file can say are right are offered


def edge_of_tests(data: DataFacts, machine: Machine, least: int) -> tuple[int, str]:
    """The shorter edge at which small things are large enough, and why; 0: as the files are.

    Args:
        least: of the config that is built on.
    """
    native = data.edge
    if data.strokes:
        thin = float(np.percentile(list(data.strokes.values()), 25))
        name = min(data.strokes, key=lambda k: abs(data.strokes[k] - thin))
        wanted, zoom = STROKE_CELLS * CELL / thin, STROKE_ZOOM
        what = f"regions of thin classes ({name}) are {thin * native:.1f} pixels wide"
    elif len(data.sides):
        wanted, zoom = OBJECT_CELLS * CELL / data.small, OBJECT_ZOOM
        what = f"small objects (one in ten) are {data.small * native:.1f} pixels across"
    else:
        return least, "nothing is known of the objects' sizes"
    most = max(native, min(zoom * native, COMFORT[machine.gpu]))
    edge = min(max(wanted, min(native, least)), most)
    where = f"{what} at the files' shorter edge of {native}"
    if edge >= native > COMFORT[machine.gpu]:
        return 0, f"{where}: images stay as they are"
    edge = rounded(edge, STEP)
    return edge, f"{where}, and {edge / native * _seen(data, native):.1f} at {edge}"


def _seen(data: DataFacts, native: int) -> float:
    if data.strokes:
        return float(np.percentile(list(data.strokes.values()), 25)) * native
    return data.small * native


def sizes(
    data: DataFacts, machine: Machine, network: str, base: Mapping[str, Any]
) -> list[Decision]:
    """Sizes of images and crops.

    Args:
        base: the values of the config that is built on, by dotted key.
    """
    edge, why = edge_of_tests(data, machine, base["INPUT.MIN_SIZE_TEST"])
    seen = edge or data.edge
    jitter = JITTER[network == TWO_STAGE]
    train = [rounded(seen * factor, STEP) for factor in jitter]
    longest = max(base["INPUT.MAX_SIZE_TRAIN"], rounded_up(max(train) * data.aspect, STEP))
    longest_test = max(base["INPUT.MAX_SIZE_TEST"], rounded_up(seen * data.aspect, STEP))
    spread = f"{jitter[0]:g} to {jitter[-1]:g} times the size at test time, so that scale varies"
    panorama = f"so that the longest images (aspect {data.aspect:.2f}) keep their scale"
    return [
        Decision("INPUT.MIN_SIZE_TRAIN", sorted(set(train)), spread),
        Decision("INPUT.MAX_SIZE_TRAIN", longest, panorama),
        Decision("INPUT.MIN_SIZE_TEST", edge, why),
        Decision("INPUT.MAX_SIZE_TEST", longest_test, panorama),
        *_crop(data, machine, network, seen, base),
    ]


def _crop(
    data: DataFacts, machine: Machine, network: str, edge: int, base: Mapping[str, Any]
) -> list[Decision]:
    """Windows in training, where whole images would be too much.

    Args:
        edge: shorter one of the images that they are cut from.
    """
    most = LARGEST_CROP[machine.gpu][network == TWO_STAGE]
    aspect = float(np.median(data.sizes.max(1) / data.sizes.min(1)))
    if network == TWO_STAGE:
        if edge * edge * aspect <= 1.5 * most * most:
            return []
        side = most
    else:
        least = min(int(min(base["INPUT.CROP.SIZE"])) or STEP, most)
        least = least if least > 1 else 256  # of a config without crops they are shares
        side = min(max(rounded(CROP_SHARE * edge, STEP), least), most)
        if side >= edge * aspect:
            return []
    why = (
        f"a step on whole images of {edge}x{edge * aspect:.0f} costs"
        f" {edge * edge * aspect / side**2:.0f} times as much; objects keep their size"
    )
    decisions = [
        Decision("INPUT.CROP.ENABLED", True, why),
        Decision("INPUT.CROP.SIZE", [side, side], "a window of the resized image, moved at random"),
    ]
    if network != TWO_STAGE:
        decisions.append(
            Decision("INPUT.SIZE_DIVISIBILITY", side, "smaller images are padded to the crop")
        )
    return decisions


def shown_share(data: DataFacts, edge: int, side: int) -> float:
    """Share of an image's objects of which a crop shows some part, on average.

    Args:
        edge: shorter one of the image that it is cut from.
        side: of the crop; 0: there is none.
    """
    if not side:
        return 1.0
    aspect = float(np.median(data.sizes.max(1) / data.sizes.min(1)))
    reach = side + (data.share(50) * edge if len(data.sides) else 0)
    return min(1.0, reach / edge) * min(1.0, reach / (edge * aspect))


def mirroring(data: DataFacts, task: str) -> list[Decision]:
    """Where class names say left and right: they change places, or nothing is mirrored."""
    sided = sided_classes(data.classes)
    if not sided or task == "entity":
        return []
    pairs = side_pairs(data.classes)
    alone = [name for name in sided if not any(name in pair for pair in pairs)]
    names = ", ".join(sided[:SHOWN]) + (", ..." if len(sided) > SHOWN else "")
    why = f"{len(sided)} classes name a side ({names}); a mirrored image shows the other one"
    if alone:
        return [Decision("INPUT.RANDOM_FLIP", "none", f"{why}, and that of {alone[0]} is no class")]
    swap = [list(pair) for pair in pairs]
    return [Decision("INPUT.MIRROR_SWAP", swap, f"{why}, so the two change places there")]


def offered(data: DataFacts, task: str) -> list[Decision]:
    """What may help data of few images, and only people can say whether it is right for them."""
    if data.images >= FEW:
        return []
    turned = Decision(
        "INPUT.VERTICAL_FLIP",
        0.5,
        f"{data.images} images: where they have no up and down (cells, aerial images), half of them"
        " upside down show more; INPUT.ROTATION turns by degrees",
        offered=True,
    )
    pasted = Decision(
        "INPUT.COPY_PASTE",
        {"PROBABILITY": 0.5},
        f"{data.images} images: objects of another image on half of them (Ghiasi et al., 2021);"
        " measured in one short training alone",
        offered=True,
    )
    return [turned, pasted] if task == "instance" else [turned]

"""Training and test views of still images, by the mapper's name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from segcore.build.mappers import TARGETS
from segcore.config import Config
from segcore.data.color import ColorSSD
from segcore.data.frame_transforms import RandomRotation
from segcore.data.side_names import mirrored_classes, side_pairs, sided_classes
from segcore.data.transforms import (
    FixedSizeCrop,
    PadTo,
    RandomCrop,
    RandomFlip,
    RandomVerticalFlip,
    Resample,
    ResizeScale,
    ResizeShortestEdge,
    pillow,
)
from segcore.data.views import StillViews, Transform
from segcore.errors import ConfigError
from segcore.structures import Metadata

logger = logging.getLogger(__name__)

AUTO = ["auto"]  # of INPUT.MIRROR_SWAP
SHOWN = 40  # names of classes in an error


def build_views(
    cfg: Config, metadata: Metadata, *, outlines: bool = False, resample: Resample = pillow
) -> StillViews:
    """Training transforms in the published order of each mapper.

    Args:
        outlines: targets have the polygons of the segments that have any.
        resample: how images are resized.
    """
    name = cfg.INPUT.DATASET_MAPPER_NAME
    if name not in TARGETS:
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {name!r}: expected one of {', '.join(TARGETS)}"
        )
    steps = _large_scale_jitter(cfg) if name.endswith("_lsj") else _resize_and_crop(cfg)
    return StillViews(
        metadata=metadata,
        targets=TARGETS[name],
        steps=[*steps, *_turns(cfg)],
        outlines=outlines,
        resample=resample,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        mirrored=mirrored_labels(cfg, metadata),
    )


def mirror_pairs(cfg: Config, names: Sequence[str]) -> list[tuple[str, str]]:
    """Classes that change places in a mirrored image, as INPUT.MIRROR_SWAP says.

    Args:
        names: of the classes.
    """
    wanted = cfg.INPUT.MIRROR_SWAP
    return side_pairs(names) if wanted == AUTO else [(first, second) for first, second in wanted]


def mirrored_labels(cfg: Config, metadata: Metadata) -> tuple[int, ...] | None:
    """(K,) the class of each in a mirrored image; None: classes stay what they are."""
    names, wanted = metadata.classes, cfg.INPUT.MIRROR_SWAP
    pairs = mirror_pairs(cfg, names)
    swapped = [name for pair in pairs for name in pair]
    if unknown := [name for name in swapped if name not in names]:
        raise ConfigError(
            f"INPUT.MIRROR_SWAP has {', '.join(unknown)}, of which {metadata.name} has no class;"
            f" expected pairs of {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        )
    alone = [name for name in sided_classes(names) if name not in swapped]
    if wanted == AUTO and alone:
        raise ConfigError(
            f"INPUT.MIRROR_SWAP is auto, but {metadata.name} has no one class of the other side of"
            f" {', '.join(alone)}; list the pairs, or INPUT.RANDOM_FLIP none"
        )
    return mirrored_classes(pairs, names) if pairs else None


def flips(cfg: Config) -> bool:
    """Whether half of the training images are mirrored."""
    kind = cfg.INPUT.RANDOM_FLIP
    if kind not in ("horizontal", "none"):
        raise ConfigError(
            f"INPUT.RANDOM_FLIP is {kind!r}; expected horizontal or none, and"
            " INPUT.VERTICAL_FLIP for upside down"
        )
    return kind == "horizontal"


def _turns(cfg: Config) -> list[Transform]:
    """What small data sets add behind the published steps; nothing by default."""
    data, steps = cfg.INPUT, []
    if data.VERTICAL_FLIP:
        steps.append(RandomVerticalFlip(data.VERTICAL_FLIP))
    if data.ROTATION:  # about the middle, and last: nothing may come after it
        steps.append(RandomRotation(data.ROTATION, low=0.5, high=0.5))
    return steps


def refuse_turns(cfg: Config) -> None:
    """ConfigError where a config asks views that are no single stills to turn, or to be pasted."""
    data = cfg.INPUT
    values = {
        "VERTICAL_FLIP": data.VERTICAL_FLIP,
        "ROTATION": data.ROTATION,
        "COPY_PASTE.PROBABILITY": data.COPY_PASTE.PROBABILITY,
    }
    for key, value in values.items():
        if value:
            raise ConfigError(
                f"INPUT.{key} is {value}; {cfg.MODEL.META_ARCHITECTURE} trains on clips, crops or"
                " patches of an image, which are not turned, nor pasted on: expected 0"
            )


def refuse_swaps(cfg: Config) -> None:
    """ConfigError where a config asks for classes of views that have none to exchange."""
    if cfg.INPUT.MIRROR_SWAP:
        raise ConfigError(
            f"INPUT.MIRROR_SWAP is {cfg.INPUT.MIRROR_SWAP}; {cfg.MODEL.META_ARCHITECTURE} learns"
            " masks without classes, which stay right in a mirrored image: expected []"
        )


def train_sizes(cfg: Config) -> tuple[int, ...]:
    """Shorter edges of training images; one of them is drawn."""
    sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    sizes = [sizes] if isinstance(sizes, int) else sizes
    if sampling.startswith("choice"):
        return tuple(sizes)
    if len(sizes) != 2 or sizes[0] > sizes[1]:
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}; expected the least and the largest size, as"
            f" INPUT.MIN_SIZE_TRAIN_SAMPLING is {sampling}"
        )
    return tuple(range(sizes[0], sizes[1] + 1))


def random_crop(cfg: Config) -> RandomCrop | None:
    """The crops of training, None without them."""
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE != "absolute":
        raise ConfigError(
            f"INPUT.CROP.TYPE is {crop.TYPE!r}; only absolute is supported, with INPUT.CROP.SIZE"
            " [height, width] in pixels"
        )
    if len(crop.SIZE) != 2 or min(crop.SIZE) < 1:
        raise ConfigError(
            f"INPUT.CROP.SIZE is {crop.SIZE}; expected [height, width] in pixels, as"
            " INPUT.CROP.TYPE is absolute"
        )
    return RandomCrop((int(crop.SIZE[0]), int(crop.SIZE[1])), crop.SINGLE_CATEGORY_MAX_AREA)


def _large_scale_jitter(cfg: Config) -> list[Transform]:
    size, data = cfg.INPUT.IMAGE_SIZE, cfg.INPUT
    flip: list[Transform] = [RandomFlip()] if flips(cfg) else []
    jitter = ResizeScale(
        min_scale=data.MIN_SCALE, max_scale=data.MAX_SCALE, height=size, width=size
    )
    return [*flip, jitter, FixedSizeCrop((size, size))]


def _resize_and_crop(cfg: Config) -> list[Transform]:
    data, crop, sizes = cfg.INPUT, random_crop(cfg), train_sizes(cfg)
    side = data.SIZE_DIVISIBILITY
    if 0 < side < max(crop.size if crop else sizes):
        logger.warning(
            "INPUT.SIZE_DIVISIBILITY %d cuts what is larger off (as it always did): training sees"
            " the top left of its images; -1 turns it off", side,
        )  # fmt: skip
    optional: list[Transform | None] = [
        crop,
        ColorSSD() if data.COLOR_AUG_SSD else None,
        RandomFlip() if flips(cfg) else None,
        PadTo(side) if side > 0 else None,
    ]
    resize = ResizeShortestEdge(sizes, data.MAX_SIZE_TRAIN)
    return [resize, *(step for step in optional if step)]

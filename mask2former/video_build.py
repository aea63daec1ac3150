"""Mask2Former for video from a config: the image model, clips as its samples, tracks as results."""

from __future__ import annotations

from mask2former.build import (
    CLASS_ROWS,
    QUERY_ROWS,
    build_losses,
    build_model,
    class_count,
    duplicates_of,
)
from mask2former.cpu_training import TRAINED
from mask2former.postprocess import PostProcess
from mask2former.prepared import PREPARED
from mask2former.schema import VideoInput, VideoTest
from mask2former.weights import to_official, to_ours
from segcore.build.solver import backbone_rate
from segcore.build.views import mirrored_labels, refuse_turns, train_sizes
from segcore.config import Config, section
from segcore.contracts import Task
from segcore.data.clips import ClipViews, Step
from segcore.data.frame_transforms import (
    RandomRotation,
    RandomSizeCrop,
    random_brightness,
    random_contrast,
    random_saturation,
)
from segcore.data.transforms import RandomCrop, RandomFlip, ResizeShortestEdge
from segcore.data.views import Transform
from segcore.errors import ConfigError
from segcore.structures import Metadata

# each frame has numbers of its own, in this order whatever the order of the key
AUGMENTATIONS: dict[str, Transform] = {
    "brightness": random_brightness,
    "contrast": random_contrast,
    "saturation": random_saturation,
    "rotation": RandomRotation(),
}


def build_video(cfg: Config, metadata: Metadata) -> Task:
    """Model, losses, post-processing and clips of a Mask2Former for video."""
    num_classes = class_count(cfg, metadata)
    test = section(cfg, "TEST", VideoTest)
    return Task(
        model=build_model(cfg, num_classes, video=True),
        losses=build_losses(cfg),
        postprocess=PostProcess(
            metadata.is_thing,
            semantic=False,
            panoptic=False,
            instances=True,
            max_instances=test.TRACKS_PER_VIDEO,
            video=True,
            duplicates=duplicates_of(cfg),
        ),
        views=build_clip_views(cfg, num_classes, mirrored_labels(cfg, metadata)),
        renames=to_ours,
        official=to_official,
        metadata=metadata,
        makes=("tracks",),
        needs="segments",
        class_rows=CLASS_ROWS,
        query_rows=QUERY_ROWS,
        rates=backbone_rate(cfg),
        clips=True,
        prepared=PREPARED,
        trained=TRAINED,
    )


def build_clip_views(
    cfg: Config, num_classes: int, mirrored: tuple[int, ...] | None = None
) -> ClipViews:
    """Clips of SAMPLING_FRAME_NUM frames in training, whole videos at test time.

    Args:
        mirrored: (K,) the class of each in a mirrored clip; None: classes stay what they are.
    """
    data = section(cfg, "INPUT", VideoInput)
    refuse_turns(cfg)
    if mirrored is not None and data.RANDOM_FLIP == "horizontal":
        raise ConfigError(
            "INPUT.RANDOM_FLIP horizontal mirrors each frame of a clip by itself, so that an object"
            " is left in one and right in the next; expected flip_by_clip (or none) beside"
            " INPUT.MIRROR_SWAP"
        )
    return ClipViews(
        frames=data.SAMPLING_FRAME_NUM,
        reach=data.SAMPLING_FRAME_RANGE,
        shuffle=data.SAMPLING_FRAME_SHUFFLE,
        steps=_steps(cfg, data),
        min_size=data.MIN_SIZE_TEST,
        max_size=data.MAX_SIZE_TEST,
        last_frame_labels=num_classes if data.LAST_FRAME_LABELS else None,
        mirrored=mirrored,
    )


def _steps(cfg: Config, data: VideoInput) -> list[Step]:
    """Training transforms in the published order."""
    if unknown := set(data.AUGMENTATIONS) - AUGMENTATIONS.keys():
        raise ConfigError(
            f"INPUT.AUGMENTATIONS has {sorted(unknown)}; expected some of"
            f" {', '.join(AUGMENTATIONS)}"
        )
    steps = [Step(_crop(data), "video")] if data.CROP.ENABLED else []
    resize = ResizeShortestEdge(train_sizes(cfg), data.MAX_SIZE_TRAIN)
    by_clip = data.MIN_SIZE_TRAIN_SAMPLING.endswith("_by_clip")
    steps.append(Step(resize, "clip" if by_clip else "frame"))
    if data.RANDOM_FLIP != "none":
        steps.append(Step(RandomFlip(), "clip" if data.RANDOM_FLIP == "flip_by_clip" else "frame"))
    steps += [Step(AUGMENTATIONS[x], "frame") for x in AUGMENTATIONS if x in data.AUGMENTATIONS]
    return steps


def _crop(data: VideoInput) -> Transform:
    """Published ones differ from frame to frame, which tears a video apart; here they do not."""
    size = [int(edge) for edge in data.CROP.SIZE]
    if (
        len(size) != 2
        or min(size) < 1
        or (data.CROP.TYPE == "absolute_range" and size != sorted(size))
    ):
        wanted = {"absolute": "[height, width]", "absolute_range": "[least, most]"}
        raise ConfigError(
            f"INPUT.CROP.SIZE is {data.CROP.SIZE}; expected {wanted[data.CROP.TYPE]} in pixels, as"
            f" INPUT.CROP.TYPE is {data.CROP.TYPE}"
        )
    if data.CROP.TYPE == "absolute":
        return RandomCrop((size[0], size[1]))
    return RandomSizeCrop(size[0], size[1])

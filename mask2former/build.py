"""Mask2Former from a config: the only file here that reads one."""

from __future__ import annotations

import logging
from functools import partial, reduce
from typing import Any

from torch import Tensor

from mask2former.criterion import Criterion
from mask2former.decoder import MaskedDecoder
from mask2former.matcher import Matcher, Weights
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import PixelDecoder
from mask2former.postprocess import PostProcess
from mask2former.weights import to_official, to_ours
from segcore.config import Config
from segcore.contracts import Task
from segcore.data.color import ColorSSD
from segcore.data.dataset import StillViews, Transform
from segcore.data.transforms import (
    FixedSizeCrop,
    PadTo,
    RandomCrop,
    RandomFlip,
    ResizeScale,
    ResizeShortestEdge,
)
from segcore.errors import ConfigError
from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin
from segcore.structures import Metadata, Outputs, Targets

logger = logging.getLogger(__name__)

TARGETS = {
    "mask_former_semantic": "semantic",
    "mask_former_panoptic": "panoptic",
    "mask_former_instance": "instance",
    "coco_instance_lsj": "instance",
    "coco_panoptic_lsj": "panoptic",
}

# keys that old files may set, of which only one value was ever published and is built here
ONLY: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.MASK_FORMER.DEEP_SUPERVISION": True,
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ": False,
    "MODEL.MASK_FORMER.PRE_NORM": False,
    "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 32,
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder",
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
    "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.SEM_SEG_HEAD.NORM": "GN",
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "MSDeformAttnPixelDecoder",
    "MODEL.SWIN.APE": False,
    "MODEL.SWIN.PATCH_NORM": True,
}
# names of the networks that are built here, in all systems that share them
NETWORKS = {
    "MODEL.SEM_SEG_HEAD.NAME": ("MaskFormerHead",),
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": (
        "MultiScaleMaskedTransformerDecoder",
        "VideoMultiScaleMaskedTransformerDecoder",
        "CropSharedMultiScaleMaskedTransformerDecoder",
    ),
}


def build(cfg: Config, metadata: Metadata) -> Task:
    """Model, losses, post-processing and views of a Mask2Former for images."""
    num_classes = class_count(cfg, metadata)
    backbone = build_backbone(cfg)
    model = Mask2Former(
        backbone=backbone,
        pixel_decoder=build_pixel_decoder(cfg, backbone),
        decoder=build_decoder(cfg, num_classes),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )
    test = cfg.MODEL.MASK_FORMER.TEST
    postprocess = PostProcess(
        metadata.is_thing,
        test.SEMANTIC_ON,
        test.PANOPTIC_ON,
        test.INSTANCE_ON,
        test.OBJECT_MASK_THRESHOLD,
        test.OVERLAP_THRESHOLD,
        cfg.TEST.DETECTIONS_PER_IMAGE,
        late_resize=not (
            test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
        ),
    )
    losses = partial(_losses, build_criterion(cfg, num_classes))
    views = build_views(cfg, metadata)
    return Task(model, losses, postprocess, views, to_ours, to_official)


def _losses(
    criterion: Criterion, outputs: Outputs, targets: list[Targets], counts: Tensor
) -> dict[str, Tensor]:
    return criterion(outputs.layers, targets, counts[0])


def refuse_other_networks(cfg: Config) -> None:
    """A ConfigError where the file asks for a network that this is not."""
    for key, only in ONLY.items():
        value: Any = reduce(getattr, key.split("."), cfg)
        value = list(value) if isinstance(only, list) else value
        if value != only:
            raise ConfigError(
                f"{key} is {value!r}: only {only!r} is built here, the value of every published"
                " configuration; remove the key"
            )
    for key, names in NETWORKS.items():
        value = reduce(getattr, key.split("."), cfg)
        if value not in names:
            raise ConfigError(f"{key} is {value!r}, which is not built here: {', '.join(names)}")
    tokens, queries = cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM, cfg.MODEL.MASK_FORMER.HIDDEN_DIM
    if tokens != queries:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.CONVS_DIM {tokens} must equal MODEL.MASK_FORMER.HIDDEN_DIM"
            f" {queries}: queries read the pixel decoder's tokens as they are"
        )


def class_count(cfg: Config, metadata: Metadata) -> int:
    """NUM_CLASSES, which 0 leaves to the data set."""
    wanted, found = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, len(metadata.classes)
    if wanted not in (0, found):
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {wanted}, but {metadata.name} has {found} classes;"
            " set it to 0 to take the data set's number"
        )
    return found


def build_backbone(cfg: Config) -> ResNet | Swin | HorNet | TimmBackbone:
    """By MODEL.BACKBONE.NAME: detectron2's names, or timm/<name>."""
    name, swin = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.SWIN
    if name.startswith("timm/"):
        return TimmBackbone(name.removeprefix("timm/"), cfg.MODEL.BACKBONE.FROZEN_NORM)
    if name == "build_resnet_backbone":
        return ResNet(cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM)
    if name == "D2SwinTransformer":
        return Swin(
            embed_dim=swin.EMBED_DIM,
            depths=tuple(swin.DEPTHS),
            num_heads=tuple(swin.NUM_HEADS),
            window_size=swin.WINDOW_SIZE,
            patch_size=swin.PATCH_SIZE,
            mlp_ratio=swin.MLP_RATIO,
            qkv_bias=swin.QKV_BIAS,
            drop_path_rate=swin.DROP_PATH_RATE,
            use_checkpoint=swin.USE_CHECKPOINT,
        )
    if name == "D2HorNet":
        hornet = cfg.MODEL.HORNET
        return HorNet(
            dim=hornet.BASE_DIM,
            depths=tuple(hornet.DEPTHS),
            drop_path_rate=hornet.DROP_PATH_RATE,
        )
    raise ConfigError(
        f"MODEL.BACKBONE.NAME {name!r}: expected build_resnet_backbone, D2SwinTransformer,"
        " D2HorNet or timm/<name>"
    )


def build_pixel_decoder(
    cfg: Config, backbone: ResNet | Swin | HorNet | TimmBackbone
) -> PixelDecoder:
    """The deformable-attention pixel decoder."""
    refuse_other_networks(cfg)
    head = cfg.MODEL.SEM_SEG_HEAD
    return PixelDecoder(
        backbone.channels,
        dim=head.CONVS_DIM,
        mask_dim=head.MASK_DIM,
        num_heads=cfg.MODEL.MASK_FORMER.NHEADS,
        num_layers=head.TRANSFORMER_ENC_LAYERS,
        ffn_dim=head.ENC_FFN_DIM,
        dropout=cfg.MODEL.MASK_FORMER.DROPOUT,
    )


def build_decoder(cfg: Config, num_classes: int) -> MaskedDecoder:
    """The masked transformer decoder."""
    former = cfg.MODEL.MASK_FORMER
    return MaskedDecoder(
        num_classes=num_classes,
        num_queries=former.NUM_OBJECT_QUERIES,
        dim=former.HIDDEN_DIM,
        mask_dim=cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        num_heads=former.NHEADS,
        ffn_dim=former.DIM_FEEDFORWARD,
        num_layers=former.DEC_LAYERS - 1,
    )


def build_criterion(cfg: Config, num_classes: int) -> Criterion:
    """Costs and losses share their weights."""
    former = cfg.MODEL.MASK_FORMER
    weights = Weights(former.CLASS_WEIGHT, former.MASK_WEIGHT, former.DICE_WEIGHT)
    return Criterion(
        num_classes=num_classes,
        matcher=Matcher(weights, former.TRAIN_NUM_POINTS),
        weights=weights,
        no_object=former.NO_OBJECT_WEIGHT,
        num_points=former.TRAIN_NUM_POINTS,
        oversample=former.OVERSAMPLE_RATIO,
        importance=former.IMPORTANCE_SAMPLE_RATIO,
    )


def build_views(cfg: Config, metadata: Metadata) -> StillViews:
    """Training transforms in the published order of each mapper."""
    name = cfg.INPUT.DATASET_MAPPER_NAME
    if name not in TARGETS:
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {name!r}: expected one of {', '.join(TARGETS)}"
        )
    return StillViews(
        metadata=metadata,
        targets=TARGETS[name],
        steps=_large_scale_jitter(cfg) if name.endswith("_lsj") else _resize_and_crop(cfg),
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
    )


def flips(cfg: Config) -> bool:
    """Whether half of the training images are mirrored."""
    kind = cfg.INPUT.RANDOM_FLIP
    if kind not in ("horizontal", "none"):
        raise ConfigError(
            f"INPUT.RANDOM_FLIP is {kind!r}; expected horizontal or none (vertical is not"
            " supported)"
        )
    return kind == "horizontal"


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
    jitter = ResizeScale(data.MIN_SCALE, data.MAX_SCALE, size, size)
    return [*flip, jitter, FixedSizeCrop((size, size))]


def _resize_and_crop(cfg: Config) -> list[Transform]:
    data, crop = cfg.INPUT, random_crop(cfg)
    sizes = data.MIN_SIZE_TRAIN
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
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

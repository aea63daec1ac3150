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
from segcore.build.backbone import build_backbone
from segcore.build.solver import backbone_rate
from segcore.build.views import build_views
from segcore.config import Config
from segcore.contracts import ClassRows, Task
from segcore.errors import ConfigError
from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin
from segcore.structures import Metadata, Outputs, Targets

logger = logging.getLogger(__name__)

CLASS_ROWS = (
    ClassRows(name="decoder.class_embed.weight"),
    ClassRows(name="decoder.class_embed.bias"),
)
QUERY_ROWS = ("decoder.query_feat.weight", "decoder.query_embed.weight")

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
    kinds = {
        "semantic": test.SEMANTIC_ON,
        "panoptic": test.PANOPTIC_ON,
        "instance": test.INSTANCE_ON,
        "boundary": test.INSTANCE_ON,
    }
    makes = tuple(kind for kind, on in kinds.items() if on)
    losses = partial(_losses, build_criterion(cfg, num_classes))
    views = build_views(cfg, metadata)
    return Task(
        model=model,
        losses=losses,
        postprocess=postprocess,
        views=views,
        renames=to_ours,
        official=to_official,
        metadata=metadata,
        makes=makes,
        needs="labels" if views.targets == "semantic" else "segments",
        class_rows=CLASS_ROWS,
        query_rows=QUERY_ROWS,
        rates=backbone_rate(cfg),
        average=postprocess.averaged if makes == ("semantic",) else None,
    )


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

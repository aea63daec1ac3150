"""Two-stage detectors and their mask refiners from a config: the only file here that reads one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from maskrefine import refinemask, transfiner
from maskrefine.box_head import BoxHead
from maskrefine.bpr import PatchRefiner
from maskrefine.detector import TwoStage
from maskrefine.fpn import FPN
from maskrefine.hrnet import VARIANTS, PatchNetwork
from maskrefine.losses import DetectorLosses, MaskLosses
from maskrefine.mask_head import PlainMaskHead, mask_losses
from maskrefine.numerics import NUMERICS, Numerics
from maskrefine.official_names import inside_detector
from maskrefine.postprocess import DetectionResults
from maskrefine.prepared import PREPARED
from maskrefine.proposals import RegionProposals
from maskrefine.refinemask import RefineMaskHead
from maskrefine.refinemask_losses import refinemask_losses
from maskrefine.resnet import ResNet
from maskrefine.schema import Input, Model, WithMaskHead
from maskrefine.transfiner import TransfinerHead
from maskrefine.transfiner_losses import transfiner_losses
from maskrefine.weights import PLAIN_HEAD, to_official, to_ours
from segcore.build.backbone import build_backbone as build_any_backbone
from segcore.build.entities import OneClassViews, entities_wanted
from segcore.build.solver import backbone_rate
from segcore.build.views import build_views
from segcore.config import Config, section
from segcore.contracts import ClassRows, Task
from segcore.engine.renaming import Rows
from segcore.errors import ConfigError
from segcore.import_path import choose
from segcore.nn.swin import Swin
from segcore.structures import Metadata

BOX_ROWS = (
    ClassRows(name="box_head.classes.weight"),
    ClassRows(name="box_head.classes.bias"),
    ClassRows(name="box_head.deltas.weight", each=4, background=None),
    ClassRows(name="box_head.deltas.bias", each=4, background=None),
)
HEAD_KEY = "MODEL.ROI_MASK_HEAD.NAME"
NO_GRAPH = (
    "how many boxes and cells it looks at depends on the image (non-maximum suppression chooses"
    " them on the way), and the tensors of an exported graph have fixed shapes"
)


HEADS: dict[str, Callable[..., TransfinerHead | RefineMaskHead]] = {
    "transfiner": TransfinerHead,
    "refinemask": RefineMaskHead,
    "refinemask_simple": partial(RefineMaskHead, simple=True),
}


def build_head(name: str, *, num_classes: int = 80) -> TransfinerHead | RefineMaskHead:
    """A published mask head by itself, in eval mode; `load_official` and `refine` are what it has.

    Args:
        name: transfiner, refinemask or refinemask_simple; ConfigError for another one.
    """
    if name not in HEADS:
        raise ConfigError(f"build_head({name!r}): expected one of {', '.join(HEADS)}")
    return HEADS[name](num_classes=num_classes).eval()


def build_patch_refiner(name: str, *, size: int | None = None) -> PatchRefiner:
    """A refiner of boundary patches, random until `load_official`.

    Args:
        name: hrnet18s or hrnet48; ConfigError for another one.
        size: pixels that a patch is resized to; None: as published, 128 and 256.
    """
    if name not in VARIANTS:
        raise ConfigError(f"build_patch_refiner({name!r}): expected one of {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    return PatchRefiner(PatchNetwork(replace(variant, input_size=size or variant.input_size)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPart:
    """What makes the masks of a detector.

    Args:
        head: a `contracts.MaskHead`.
        losses: (regions as the head returned them, targets) -> losses by name.
        names: (official, ours) beginnings of its parameters' names, a published program.
        class_rows: layers in it that have a row a class, none for the background.
        training_only: beginnings of names of its parameters that masks do not need.
        coarse: layers that are not used where another model gives the coarse masks.
    """

    head: nn.Module
    losses: MaskLosses
    names: Mapping[str, Rows]
    class_rows: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()


def model_of(cfg: Config) -> Model:
    """MODEL, with a detector's sections."""
    return section(cfg, "MODEL", Model)


def heads_of(cfg: Config) -> WithMaskHead:
    """MODEL, with the sections of mask heads."""
    return section(cfg, "MODEL", WithMaskHead)


def build_detector(cfg: Config, metadata: Metadata) -> Task:
    """Mask R-CNN, or one of the refiners in the place of its mask head; entities where wanted."""
    model, data = model_of(cfg), section(cfg, "INPUT", Input)
    files, entities = metadata, entities_wanted(cfg)
    metadata = files.as_entities() if entities else files
    num_classes = class_count(cfg, metadata)
    numerics = NUMERICS[model.NUMERICS]
    part = build_mask_part(cfg, num_classes)
    if stuff := [
        c for c, thing in zip(metadata.classes, metadata.is_thing, strict=True) if not thing
    ]:
        raise ConfigError(
            f"{metadata.name} has {len(stuff)} classes that are no objects ({', '.join(stuff[:3])}"
            " ...), which a detector cannot find; give its things as COCO instances"
        )
    views = build_views(
        cfg,
        files,
        outlines=data.MASK_FORMAT == "polygon",
        resample=numerics.resample,
    )
    if views.targets == "semantic":
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {data.DATASET_MAPPER_NAME} makes label images; a detector"
            " needs objects: default, mask_former_instance or coco_instance_lsj"
        )
    rows = [f"mask_head.{name}.{kind}" for name in part.class_rows for kind in ("weight", "bias")]
    return Task(
        model=build_two_stage(cfg, part.head, num_classes),
        losses=DetectorLosses(
            numerics=numerics,
            mask_losses=part.losses,
            anchors_per_image=model.RPN.BATCH_SIZE_PER_IMAGE,
            anchor_share=model.RPN.POSITIVE_FRACTION,
            anchor_overlaps=(model.RPN.IOU_THRESHOLDS[0], model.RPN.IOU_THRESHOLDS[1]),
            anchor_beta=model.RPN.SMOOTH_L1_BETA,
            box_beta=model.ROI_BOX_HEAD.SMOOTH_L1_BETA,
        ),
        postprocess=DetectionResults(empty_kept=numerics.empty_kept, apart=entities),
        views=OneClassViews(views) if entities else views,
        renames=partial(to_ours, head=part.names),
        official=partial(to_official, style=model.NUMERICS, head=part.names),
        metadata=metadata,
        makes=("entity",) if entities else ("instance",),
        needs="segments",
        no_graph=NO_GRAPH,
        class_rows=(*BOX_ROWS, *(ClassRows(name=name, background=None) for name in rows)),
        training_only=tuple(f"mask_head.{name}" for name in part.training_only),
        rates=backbone_rate(cfg),
        prepared=PREPARED,
    )


def class_count(cfg: Config, metadata: Metadata) -> int:
    """NUM_CLASSES, which 0 leaves to the data set."""
    wanted, found = model_of(cfg).ROI_HEADS.NUM_CLASSES, len(metadata.classes)
    if wanted not in (0, found):
        raise ConfigError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {wanted}, but {metadata.name} has {found} classes; set"
            " it to 0 to take the data set's number"
        )
    return found


def build_two_stage(cfg: Config, mask_head: nn.Module, num_classes: int) -> TwoStage:
    """Everything around the mask head."""
    model = model_of(cfg)
    rpn, roi, box = model.RPN, model.ROI_HEADS, model.ROI_BOX_HEAD
    numerics, channels = NUMERICS[model.NUMERICS], model.FPN.OUT_CHANNELS
    sizes, ratios = anchors(model)
    backbone = build_backbone(cfg)
    return TwoStage(
        backbone=backbone,
        neck=FPN(backbone.channels, channels, fill=numerics.fill),
        rpn=RegionProposals(
            channels,
            numerics=numerics,
            sizes=sizes,
            ratios=ratios,
            train=(rpn.PRE_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TRAIN),
            test=(rpn.PRE_NMS_TOPK_TEST, rpn.POST_NMS_TOPK_TEST),
            overlap=rpn.NMS_THRESH,
        ),
        box_head=BoxHead(
            channels,
            num_classes=num_classes,
            numerics=numerics,
            cells=box.POOLER_RESOLUTION,
            hidden=box.FC_DIM,
            score_threshold=roi.SCORE_THRESH_TEST,
            overlap=roi.NMS_THRESH_TEST,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        ),
        mask_head=mask_head,
        pixel_mean=model.PIXEL_MEAN,
        pixel_std=model.PIXEL_STD,
        bgr=cfg.INPUT.FORMAT == "BGR",
        regions_per_image=roi.BATCH_SIZE_PER_IMAGE,
        foreground_share=roi.POSITIVE_FRACTION,
        foreground_overlap=roi.IOU_THRESHOLDS[0],
    )


def anchors(model: Model) -> tuple[list[float], list[float]]:
    """Sizes of anchors, one a level of the pyramid, and their ratios."""
    sizes, ratios = model.ANCHOR_GENERATOR.SIZES, model.ANCHOR_GENERATOR.ASPECT_RATIOS
    if len(sizes) != len(FPN.strides) or {len(row) for row in sizes} != {1}:
        raise ConfigError(
            f"MODEL.ANCHOR_GENERATOR.SIZES is {sizes}; expected one size for each of the"
            f" {len(FPN.strides)} levels, like [[32], [64], [128], [256], [512]]"
        )
    if len(ratios) != 1 or not ratios[0]:
        raise ConfigError(
            f"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS is {ratios}; expected one list for all levels,"
            " like [[0.5, 1.0, 2.0]]"
        )
    return [row[0] for row in sizes], ratios[0]


def build_backbone(cfg: Config) -> Any:
    """By MODEL.BACKBONE.NAME: detectron2's and Transfiner's names, or any backbone of the house."""
    own = BACKBONES.get(cfg.MODEL.BACKBONE.NAME)
    backbone: Any = own(model_of(cfg)) if own else build_any_backbone(cfg)
    if tuple(backbone.strides) != FPN.strides[:4]:
        raise ConfigError(
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME}: its maps have strides"
            f" {tuple(backbone.strides)}; a feature pyramid wants {FPN.strides[:4]}"
        )
    return backbone


def _resnet(model: Model) -> ResNet:
    resnet = model.RESNETS
    return ResNet(
        resnet.DEPTH,
        stride_in_1x1=resnet.STRIDE_IN_1X1,
        groups=resnet.NUM_GROUPS,
        width=resnet.WIDTH_PER_GROUP,
        deformable=resnet.DEFORM_ON_PER_STAGE,
        learned_affine=resnet.NORM == "StandingBN",
        freeze_at=max(model.BACKBONE.FREEZE_AT, 0),
    )


def _swin(model: Model) -> Swin:
    swin = model.SWINT
    return Swin(
        embed_dim=swin.EMBED_DIM,
        depths=tuple(swin.DEPTHS),
        num_heads=tuple(swin.NUM_HEADS),
        window_size=swin.WINDOW_SIZE,
        mlp_ratio=swin.MLP_RATIO,
        drop_path_rate=swin.DROP_PATH_RATE,
    )


def _swin_b(model: Model) -> Swin:
    if model.SWINT.EMBED_DIM == 96:  # as published files leave it, whose program knew better
        raise ConfigError(
            "MODEL.BACKBONE.NAME is build_swinb_fpn_backbone, but MODEL.SWINT has Swin-T's values;"
            " add EMBED_DIM 128, DEPTHS [2, 2, 18, 2] and NUM_HEADS [4, 8, 16, 32]"
        )
    return _swin(model)


BACKBONES: dict[str, Callable[[Model], nn.Module]] = {
    "build_resnet_fpn_backbone": _resnet,
    "build_swint_fpn_backbone": _swin,
    "build_swinb_fpn_backbone": _swin_b,
}


def build_mask_part(cfg: Config, num_classes: int) -> MaskPart:
    """By MODEL.ROI_MASK_HEAD.NAME, or one's own "package.module:function".

    Such a function takes the config and the number of classes of masks, 1 where these do not
    depend on the class, and returns a MaskPart.
    """
    model = heads_of(cfg)
    head = model.ROI_MASK_HEAD
    if head.CONV_DIM != model.FPN.OUT_CHANNELS:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.CONV_DIM {head.CONV_DIM} must equal MODEL.FPN.OUT_CHANNELS"
            f" {model.FPN.OUT_CHANNELS}: the head works on what it reads"
        )
    return choose(MASK_HEADS, head.NAME, HEAD_KEY)(
        cfg, 1 if head.CLS_AGNOSTIC_MASK else num_classes
    )


def _plain(cfg: Config, num_classes: int) -> MaskPart:
    model = heads_of(cfg)
    numerics: Numerics = NUMERICS[model.NUMERICS]
    return MaskPart(
        head=PlainMaskHead(
            model.FPN.OUT_CHANNELS,
            num_classes=num_classes,
            numerics=numerics,
            cells=model.ROI_MASK_HEAD.POOLER_RESOLUTION,
            convs=model.ROI_MASK_HEAD.NUM_CONV,
        ),
        losses=partial(mask_losses, least_side=numerics.least_side),
        names=PLAIN_HEAD,
        class_rows=("predictor",) if num_classes > 1 else (),
    )


def _transfiner(cfg: Config, num_classes: int) -> MaskPart:
    model = heads_of(cfg)
    own = model.TRANSFINER
    head = TransfinerHead(
        num_classes=num_classes,
        dim=model.FPN.OUT_CHANNELS,
        dropout=own.DROPOUT,
        train_limit=own.TRAIN_LIMIT or None,
        test_limit=own.TEST_LIMIT or None,
        limit_per_image=own.LIMIT_PER_IMAGE,
        train_thresholds=own.TRAIN_THRESHOLDS,
        test_thresholds=own.TEST_THRESHOLDS,
        test_cells=own.TEST_CELLS or None,
        samples=own.SAMPLES,
        least=own.LEAST,
    )
    return MaskPart(
        head=head,
        losses=transfiner_losses,
        names={"detectron2": inside_detector(transfiner.OFFICIAL, "roi_heads.")},
        class_rows=("masks.2",) if num_classes > 1 else (),
        training_only=("boundary.", "semantic_logits."),
        coarse=("masks",),
    )


def _refinemask(cfg: Config, num_classes: int, *, simple: bool = False) -> MaskPart:
    model = heads_of(cfg)
    last_of_any = simple or model.REFINEMASK.LAST_CLS_AGNOSTIC
    head = RefineMaskHead(
        num_classes=num_classes,
        simple=simple,
        last_of_any_class=last_of_any,
        dim=model.FPN.OUT_CHANNELS,
    )
    rows = refinemask.OFFICIAL_SIMPLE if simple else refinemask.OFFICIAL
    stages = range(3 if last_of_any else 4)
    return MaskPart(
        head=head,
        losses=partial(refinemask_losses, weights=model.REFINEMASK.STAGE_WEIGHTS),
        names={"mmdet": inside_detector(rows, "roi_head.mask_head.")},
        class_rows=tuple(f"logits.{i}" for i in stages) if num_classes > 1 else (),
        coarse=("logits.0", "logits.1"),
    )


MASK_HEADS: dict[str, Callable[[Config, int], MaskPart]] = {
    "MaskRCNNConvUpsampleHead": _plain,
    "TransfinerHead": _transfiner,
    "RefineMaskHead": _refinemask,
    "SimpleRefineMaskHead": partial(_refinemask, simple=True),
}

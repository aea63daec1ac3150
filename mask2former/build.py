"""Mask2Former from a config: the only file here that reads one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from mask2former.cpu_training import TRAINED
from mask2former.criterion import Criterion
from mask2former.decoder import MaskedDecoder
from mask2former.distinct import SAME, Duplicates
from mask2former.graph_results import QueryResults
from mask2former.matcher import Matcher, Weights
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import PixelDecoder
from mask2former.postprocess import PostProcess
from mask2former.prepared import PREPARED
from mask2former.schema import MaskFormer, SemSegHead
from mask2former.weights import to_official, to_ours
from segcore.build.backbone import build_backbone
from segcore.build.solver import backbone_rate
from segcore.build.views import build_views
from segcore.config import Config, section
from segcore.contracts import Backbone, ClassRows, Task
from segcore.errors import ConfigError
from segcore.import_path import choose
from segcore.structures import Metadata, Outputs, Targets

CLASS_ROWS = (
    ClassRows(name="decoder.class_embed.weight"),
    ClassRows(name="decoder.class_embed.bias"),
)
QUERY_ROWS = ("decoder.query_feat.weight", "decoder.query_embed.weight")


def head_of(cfg: Config) -> SemSegHead:
    """MODEL.SEM_SEG_HEAD."""
    return section(cfg, "MODEL.SEM_SEG_HEAD", SemSegHead)


def former_of(cfg: Config) -> MaskFormer:
    """MODEL.MASK_FORMER."""
    return section(cfg, "MODEL.MASK_FORMER", MaskFormer)


def duplicates_of(cfg: Config) -> Duplicates | None:
    """What MODEL.MASK_FORMER.TEST says of objects that come twice."""
    former = former_of(cfg)
    copies = max(1, -(-former.TEST.NUM_QUERIES // former.NUM_OBJECT_QUERIES))
    least = former.TEST.DUPLICATE_IOU or (SAME if copies > 1 else 0)
    return Duplicates(least, copies) if least else None


def build(cfg: Config, metadata: Metadata) -> Task:
    """Model, losses, post-processing and views of a Mask2Former for images."""
    num_classes = class_count(cfg, metadata)
    test = former_of(cfg).TEST
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
        duplicates=duplicates_of(cfg),
    )
    kinds = {
        "semantic": test.SEMANTIC_ON,
        "panoptic": test.PANOPTIC_ON,
        "instance": test.INSTANCE_ON,
    }
    makes = tuple(kind for kind, on in kinds.items() if on)
    views = build_views(cfg, metadata)
    return Task(
        model=build_model(cfg, num_classes),
        losses=build_losses(cfg),
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
        prepared=PREPARED,
        trained=TRAINED,
        graph_results=_graph_results(postprocess),
    )


def _graph_results(process: PostProcess) -> QueryResults | None:
    """None where objects that come twice are left out: one by one, which no graph does."""
    if process.duplicates and (process.panoptic or process.instances):
        return None
    return QueryResults(
        process.is_thing,
        process.semantic,
        process.panoptic,
        process.instances,
        process.object_threshold,
        process.overlap_threshold,
        process.max_instances,
    )


def build_model(cfg: Config, num_classes: int, *, video: bool = False) -> Mask2Former:
    """The network; `video` as of Mask2Former."""
    backbone = build_backbone(cfg)
    return Mask2Former(
        backbone=backbone,
        pixel_decoder=build_pixel_decoder(cfg, backbone),
        decoder=build_decoder(cfg, num_classes),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        video=video,
    )


def build_losses(cfg: Config) -> Callable[[Outputs, list[Targets], Tensor], dict[str, Tensor]]:
    """Of all layers, as a Task has them."""
    return partial(_losses, build_criterion(cfg))


def _losses(
    criterion: Criterion, outputs: Outputs, targets: list[Targets], counts: Tensor
) -> dict[str, Tensor]:
    return criterion(outputs.layers, targets, counts[0])


def class_count(cfg: Config, metadata: Metadata) -> int:
    """NUM_CLASSES, which 0 leaves to the data set."""
    wanted, found = head_of(cfg).NUM_CLASSES, len(metadata.classes)
    if wanted not in (0, found):
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {wanted}, but {metadata.name} has {found} classes;"
            " set it to 0 to take the data set's number"
        )
    return found


def build_pixel_decoder(cfg: Config, backbone: Backbone) -> nn.Module:
    """By MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME, or one's own "package.module:function".

    A pixel decoder is a module that takes the backbone's maps, and gives a pyramid for the
    decoder, coarse to fine, and mask features at stride 4: `PixelDecoder.forward`.
    """
    key = "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME"
    return choose(PIXEL_DECODERS, head_of(cfg).PIXEL_DECODER_NAME, key)(cfg, backbone)


def build_decoder(cfg: Config, num_classes: int) -> Any:
    """By MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME, or one's own "package.module:function".

    A decoder is a module that takes a pyramid and mask features, and gives a prediction for each
    of its layers and the queries after the last: `MaskedDecoder.forward`.
    """
    key = "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME"
    return choose(DECODERS, former_of(cfg).TRANSFORMER_DECODER_NAME, key)(cfg, num_classes)


def _deformable_pixel_decoder(cfg: Config, backbone: Backbone) -> PixelDecoder:
    head, former = head_of(cfg), former_of(cfg)
    return PixelDecoder(
        backbone.channels,
        dim=head.CONVS_DIM,
        mask_dim=head.MASK_DIM,
        num_heads=former.NHEADS,
        num_layers=head.TRANSFORMER_ENC_LAYERS,
        ffn_dim=head.ENC_FFN_DIM,
        dropout=former.DROPOUT,
    )


def _masked_decoder(cfg: Config, num_classes: int) -> MaskedDecoder:
    head, former = head_of(cfg), former_of(cfg)
    if head.CONVS_DIM != former.HIDDEN_DIM:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.CONVS_DIM {head.CONVS_DIM} must equal MODEL.MASK_FORMER.HIDDEN_DIM"
            f" {former.HIDDEN_DIM}: queries read the pixel decoder's tokens as they are"
        )
    return MaskedDecoder(
        num_classes=num_classes,
        num_queries=former.NUM_OBJECT_QUERIES,
        test_queries=former.TEST.NUM_QUERIES,
        dim=former.HIDDEN_DIM,
        mask_dim=head.MASK_DIM,
        num_heads=former.NHEADS,
        ffn_dim=former.DIM_FEEDFORWARD,
        num_layers=former.DEC_LAYERS - 1,
    )


PIXEL_DECODERS: dict[str, Callable[[Config, Backbone], nn.Module]] = {
    "MSDeformAttnPixelDecoder": _deformable_pixel_decoder
}
DECODERS: dict[str, Callable[[Config, int], nn.Module]] = dict.fromkeys(
    (  # what is one decoder here has a name in each of the systems that share it
        "MultiScaleMaskedTransformerDecoder",
        "VideoMultiScaleMaskedTransformerDecoder",
        "CropSharedMultiScaleMaskedTransformerDecoder",
    ),
    _masked_decoder,
)


def build_criterion(cfg: Config) -> Criterion:
    """Costs and losses share their weights."""
    former = former_of(cfg)
    weights = Weights(former.CLASS_WEIGHT, former.MASK_WEIGHT, former.DICE_WEIGHT)
    return Criterion(
        matcher=Matcher(weights, former.TRAIN_NUM_POINTS),
        weights=weights,
        no_object=former.NO_OBJECT_WEIGHT,
        num_points=former.TRAIN_NUM_POINTS,
        oversample=former.OVERSAMPLE_RATIO,
        importance=former.IMPORTANCE_SAMPLE_RATIO,
    )

"""Backbones by MODEL.BACKBONE.NAME."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from segcore.config import Config
from segcore.errors import ConfigError
from segcore.import_path import choose
from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin

KEY = "MODEL.BACKBONE.NAME"


def build_backbone(cfg: Config) -> Any:
    """A `contracts.Backbone` that is a module: detectron2's names, timm/<name>, or one's own.

    An own one is "package.module:function" of a function that takes the config.
    """
    name = cfg.MODEL.BACKBONE.NAME
    if name.startswith("timm/"):
        return TimmBackbone(
            name.removeprefix("timm/"),
            cfg.MODEL.BACKBONE.FROZEN_NORM,
            use_checkpoint=cfg.MODEL.BACKBONE.USE_CHECKPOINT,
        )
    backbone = choose(BACKBONES, name, KEY)(cfg)
    lacking = [part for part in ("channels", "strides") if not hasattr(backbone, part)]
    if lacking:
        raise ConfigError(
            f"{KEY} {name!r} makes a {type(backbone).__name__} without {' and '.join(lacking)};"
            " expected both, of its feature maps from fine to coarse, e.g. strides (4, 8, 16, 32)"
        )
    return backbone


def _resnet(cfg: Config) -> ResNet:
    resnets, again = cfg.MODEL.RESNETS, cfg.MODEL.BACKBONE.USE_CHECKPOINT
    return ResNet(resnets.DEPTH, resnets.NORM, use_checkpoint=again)


def _swin(cfg: Config) -> Swin:
    swin = cfg.MODEL.SWIN
    return Swin(
        embed_dim=swin.EMBED_DIM,
        depths=tuple(swin.DEPTHS),
        num_heads=tuple(swin.NUM_HEADS),
        window_size=swin.WINDOW_SIZE,
        patch_size=swin.PATCH_SIZE,
        mlp_ratio=swin.MLP_RATIO,
        qkv_bias=swin.QKV_BIAS,
        drop_path_rate=swin.DROP_PATH_RATE,
        use_checkpoint=swin.USE_CHECKPOINT or cfg.MODEL.BACKBONE.USE_CHECKPOINT,
    )


def _hornet(cfg: Config) -> HorNet:
    hornet = cfg.MODEL.HORNET
    return HorNet(
        dim=hornet.BASE_DIM,
        depths=tuple(hornet.DEPTHS),
        drop_path_rate=hornet.DROP_PATH_RATE,
        use_checkpoint=cfg.MODEL.BACKBONE.USE_CHECKPOINT,
    )


BACKBONES: dict[str, Callable[[Config], nn.Module]] = {
    "build_resnet_backbone": _resnet,
    "D2SwinTransformer": _swin,
    "D2HorNet": _hornet,
}

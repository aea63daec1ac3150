"""Backbones by MODEL.BACKBONE.NAME."""

from __future__ import annotations

from segcore.config import Config
from segcore.errors import ConfigError
from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin


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

"""A backbone, a pixel decoder and a decoder for Mask2Former.

Legend: B samples, Q queries, C channels, H W input pixels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from mask2former.build import former_of, head_of
from mask2former.decoder import MaskedDecoder


class Stairs(nn.Module):
    """One convolution a level."""

    strides = (4, 8, 16, 32)
    channels = (8, 12, 16, 20)

    def __init__(self):
        super().__init__()
        widths = pairwise((3, *self.channels))
        steps = (4, 2, 2, 2)
        self.levels = nn.ModuleList(
            nn.Conv2d(a, b, step, step) for (a, b), step in zip(widths, steps, strict=True)
        )

    def forward(self, images):
        """(B, 3, H, W) -> four maps (B, C, h, w)."""
        maps = [images]
        for level in self.levels:
            maps.append(level(maps[-1]).relu())
        return maps[1:]


class Sideways(nn.Module):
    """Every level by itself; nothing goes up or down."""

    def __init__(self, channels, dim, mask_dim):
        super().__init__()
        self.fine = nn.Conv2d(channels[0], mask_dim, 1)
        self.coarse = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels[:0:-1])

    def forward(self, features):
        """res2..res5 -> a pyramid of three (B, C, h, w), coarse to fine; (B, C, H/4, W/4)."""
        pyramid = [conv(x) for conv, x in zip(self.coarse, features[:0:-1], strict=True)]
        return pyramid, self.fine(features[0])


def build_backbone(cfg):
    return Stairs()


def build_without_channels(cfg):
    return nn.Identity()


def build_pixel_decoder(cfg, backbone):
    return Sideways(backbone.channels, former_of(cfg).HIDDEN_DIM, head_of(cfg).MASK_DIM)


def build_decoder(cfg, num_classes):
    former = former_of(cfg)
    return MaskedDecoder(
        num_classes=num_classes,
        num_queries=5,
        dim=former.HIDDEN_DIM,
        mask_dim=head_of(cfg).MASK_DIM,
        num_heads=former.NHEADS,
        ffn_dim=former.HIDDEN_DIM,
        num_layers=1,
    )


def build_coarse(cfg):
    backbone = Stairs()
    backbone.strides = (8, 16)
    return backbone


def build_refiner(weights, **options):
    return lambda image, rles: rles

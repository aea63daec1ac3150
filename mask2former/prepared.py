"""What takes the place of Mask2Former's modules for inference on a CPU; see segcore.nn.prepared.

Legend of one-letter names: B samples, T views, Q queries, C channels, D mask channels, S tokens,
h w feature cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mask2former.decoder import DecoderLayer, MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import DeformableSelfAttention, EncoderLayer, PixelDecoder
from segcore.nn.packed import CACHED_TOKENS, PackedLinear
from segcore.nn.prepared import Preparation, as_class


class _DecoderLayer(DecoderLayer):
    """Feed-forward with its ReLU and its sum inside the products."""

    def _feed(self, queries: Tensor) -> Tensor:
        return self.linear2(self.linear1(queries), queries)


class _EncoderLayer(EncoderLayer):
    """Feed-forward with its ReLU and its sum inside the products."""

    cached_tokens = CACHED_TOKENS

    def _settle(self, x: Tensor, read: Tensor) -> Tensor:
        x = self.norm1(x + read)
        return self.norm2(self.linear2(self.linear1(x), x))


class _DeformableSelfAttention(DeformableSelfAttention):
    """Points in float32, whatever the rest is in."""

    def _aim(self, query: Tensor) -> tuple[Tensor, Tensor]:
        return self.sampling_offsets(query), self.attention_weights(query)


def _layer(layer: Any, kind: torch.dtype) -> nn.Module:
    first, second = layer.linear1, layer.linear2
    layer.linear1 = PackedLinear(first.weight, first.bias, kind, "relu")
    layer.linear2 = PackedLinear(second.weight, second.bias, kind)
    return as_class(layer, _EncoderLayer if isinstance(layer, EncoderLayer) else _DecoderLayer)


def _deformable(attention: DeformableSelfAttention, kind: torch.dtype) -> nn.Module:
    offsets = attention.sampling_offsets
    packed = PackedLinear(offsets.weight, offsets.bias, torch.float32)
    attention.sampling_offsets = packed  # type: ignore[assignment]
    return as_class(attention, _DeformableSelfAttention)


class _MaskedDecoder(MaskedDecoder):
    """Its mask features lack the pixel decoder's last convolution: the queries bring it along."""

    mask_weight: Tensor  # (D, C)
    mask_bias: Tensor  # (D,)

    def _masks(self, states: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C), (B, T, C, h, w) -> (B, Q, T, h, w)"""
        embedding = self.mask_embed(states).to(self.mask_weight.dtype)[:, None]  # (B, 1, Q, D)
        with torch.autocast("cpu", enabled=False):  # a product of few rows
            weights, offset = embedding @ self.mask_weight, embedding @ self.mask_bias
        masks = weights @ mask_features.flatten(3)  # (B, T, Q, h*w)
        masks += offset[..., None].to(masks.dtype)
        return masks.unflatten(3, mask_features.shape[-2:]).transpose(1, 2)


def move_mask_convolution(pixel_decoder: nn.Module, decoder: nn.Module) -> None:
    """The 1x1 convolution of all cells, which only queries look at, becomes one of the queries.

    A user's own decoders stay as they are.
    """
    if type(pixel_decoder) is not PixelDecoder or type(decoder) is not MaskedDecoder:
        return
    conv = pixel_decoder.mask_features
    moved = as_class(decoder, _MaskedDecoder)
    moved.register_buffer("mask_weight", conv.weight.detach()[:, :, 0, 0].clone())
    moved.register_buffer("mask_bias", conv.bias.detach().clone())  # type: ignore[union-attr]
    pixel_decoder.mask_features = nn.Identity()  # type: ignore[assignment]


def _mask2former(model: Mask2Former, kind: torch.dtype) -> nn.Module:
    move_mask_convolution(model.pixel_decoder, model.decoder)
    return model


PREPARED: dict[type[nn.Module], Preparation] = {
    DecoderLayer: _layer,
    EncoderLayer: _layer,
    DeformableSelfAttention: _deformable,
    Mask2Former: _mask2former,
}

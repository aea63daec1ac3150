"""Mask2Former's modules trained on a CPU; see segcore.nn.cpu_training.

Legend of one-letter names: B samples, T views, Q queries, C channels, D mask channels, S tokens,
h w feature cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mask2former.decoder import DecoderLayer, MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import DeformableSelfAttention, EncoderLayer, PixelDecoder
from segcore.nn.cpu_training import (
    KINDS,
    Conv,
    Linear,
    Trained,
    feed_forward,
    is_plain,
    linear,
    mask_products,
)
from segcore.nn.layers import watched
from segcore.structures import Prediction


class _DecoderLayer(DecoderLayer):
    def _feed(self, queries: Tensor) -> Tensor:
        return queries + feed_forward(queries, self.linear1, self.linear2)


class _EncoderLayer(EncoderLayer):
    def _settle(self, x: Tensor, read: Tensor) -> Tensor:
        if self.dropout.p or watched(self.dropout):
            return super()._settle(x, read)
        x = self.norm1(x + read)
        return self.norm2(x + feed_forward(x, self.linear1, self.linear2))


class _DeformableSelfAttention(DeformableSelfAttention):
    """Points in float32, whatever the rest is in, but not their gradients."""

    def _aim(self, query: Tensor) -> tuple[Tensor, Tensor]:
        mixed = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if mixed else torch.float32
        layer = self.sampling_offsets
        if not is_plain(layer, nn.Linear, Linear):
            return super()._aim(query)
        with torch.autocast("cpu", enabled=False):
            exact = query.to(layer.weight.dtype)
            offsets = linear(exact, layer.weight, layer.bias, kind)
        return offsets, self.attention_weights(query)


class _PixelDecoder(PixelDecoder):
    """Without its last convolution, which the decoder's queries bring along."""

    def _project(self, fine: Tensor) -> Tensor:
        return fine if _moves(self) else super()._project(fine)


def _moves(pixel_decoder: PixelDecoder) -> bool:
    """Whether its last convolution is still one that a product with its weight stands for."""
    conv = pixel_decoder.mask_features
    return is_plain(conv, nn.Conv2d, Conv)


class _MaskedDecoder(MaskedDecoder):
    """Gradients of masks are those of the queries that losses look at.

    Only the queries look at the mask features, so a 1x1 convolution of all cells becomes one of
    the queries: (E W) x + E b = E (W x + b).
    """

    before: tuple[PixelDecoder]  # whose the convolution is; no part of this module

    def _through(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, C) -> what is multiplied with the cells, (B, Q, C), and added to them, (B, Q)."""
        conv = self.before[0].mask_features
        embedding = self.mask_embed(states)  # (B, Q, D)
        return embedding @ conv.weight[:, :, 0, 0], embedding @ conv.bias

    def _masks(self, states: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C), (B, T, C, h, w) -> (B, Q, T, h, w)"""
        if not _moves(*self.before):
            return super()._masks(states, mask_features)
        weights, offset = self._through(states)
        masks = weights[:, None] @ mask_features.flatten(3)  # (B, T, Q, h*w)
        masks = masks.add_(offset[:, None, :, None].to(masks.dtype))
        return masks.unflatten(3, mask_features.shape[-2:]).transpose(1, 2)

    def _predict(self, states: list[Tensor], mask_features: Tensor) -> list[Prediction]:
        if not _moves(*self.before) or mask_features.dtype not in KINDS:
            return super()._predict(states, mask_features)
        together = torch.cat(states, dim=1)
        counts = [x.shape[1] for x in states]
        logits = self.class_embed(together).split(counts, dim=1)
        B, T, _, h, w = mask_features.shape
        given = (x.repeat_interleave(T, dim=0) for x in self._through(together))  # (B*T, ...)
        weights, offsets = (x.to(mask_features.dtype).split(counts, dim=1) for x in given)
        each = mask_products(mask_features.flatten(0, 1).flatten(2), weights, offsets)
        masks = [x.view(B, T, -1, h, w).transpose(1, 2) for x in each]
        return [Prediction(*pair) for pair in zip(logits, masks, strict=True)]


def move_mask_convolution(pixel_decoder: nn.Module, decoder: nn.Module) -> None:
    """The last 1x1 convolution among the queries; a user's own decoders stay as they are."""
    if type(pixel_decoder) is not PixelDecoder or type(decoder) is not MaskedDecoder:
        return
    pixel_decoder.__class__, decoder.__class__ = _PixelDecoder, _MaskedDecoder
    decoder.before = (pixel_decoder,)  # type: ignore[assignment]


def _mask2former(model: Mask2Former) -> None:
    move_mask_convolution(model.pixel_decoder, model.decoder)


TRAINED: dict[type[nn.Module], Trained] = {
    DecoderLayer: _DecoderLayer,
    DeformableSelfAttention: _DeformableSelfAttention,
    EncoderLayer: _EncoderLayer,
    Mask2Former: _mask2former,
}

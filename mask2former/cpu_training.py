"""Mask2Former's modules trained on a CPU; see segcore.nn.cpu_training.

Legend of one-letter names: B samples, T views, Q queries, C channels, D mask channels, S tokens,
h w feature cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mask2former.decoder import DecoderLayer, MaskedDecoder
from mask2former.pixel_decoder import DeformableSelfAttention, EncoderLayer
from segcore.nn.cpu_training import feed_forward, linear, mask_products
from segcore.structures import Prediction


class _DecoderLayer(DecoderLayer):
    def _feed(self, queries: Tensor) -> Tensor:
        return queries + feed_forward(queries, self.linear1, self.linear2)


class _EncoderLayer(EncoderLayer):
    def _settle(self, x: Tensor, read: Tensor) -> Tensor:
        if self.dropout.p:
            return super()._settle(x, read)
        x = self.norm1(x + read)
        return self.norm2(x + feed_forward(x, self.linear1, self.linear2))


class _DeformableSelfAttention(DeformableSelfAttention):
    """Points in float32, whatever the rest is in, but not their gradients."""

    def _aim(self, query: Tensor) -> tuple[Tensor, Tensor]:
        mixed = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if mixed else torch.float32
        layer = self.sampling_offsets
        with torch.autocast("cpu", enabled=False):
            exact = query.to(layer.weight.dtype)
            offsets = linear(exact, layer.weight, layer.bias, kind)
        return offsets, self.attention_weights(query)


class _MaskedDecoder(MaskedDecoder):
    """Gradients of masks are those of the queries that losses look at."""

    def _predict(self, states: list[Tensor], mask_features: Tensor) -> list[Prediction]:
        together = torch.cat(states, dim=1)
        counts = [x.shape[1] for x in states]
        logits = self.class_embed(together).split(counts, dim=1)
        B, T, _, h, w = mask_features.shape
        embedding = self.mask_embed(together)[:, None].expand(-1, T, -1, -1).flatten(0, 1)
        embeddings = embedding.to(mask_features.dtype).split(counts, dim=1)
        each = mask_products(mask_features.flatten(0, 1).flatten(2), embeddings)
        masks = [x.view(B, T, -1, h, w).transpose(1, 2) for x in each]
        return [Prediction(*pair) for pair in zip(logits, masks, strict=True)]


TRAINED: dict[type[nn.Module], type[nn.Module]] = {
    DecoderLayer: _DecoderLayer,
    DeformableSelfAttention: _DeformableSelfAttention,
    EncoderLayer: _EncoderLayer,
    MaskedDecoder: _MaskedDecoder,
}

"""CropFormer's decoder: every view alone, then all views of an image jointly.

High-Quality Entity Segmentation (Qi et al., 2023). Both passes are Mask2Former's decoder, the same
object; between them the views' queries are fused into one set.

Legend of one-letter names: B samples, T views, Q queries, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from mask2former.decoder import DecoderLayer, MaskedDecoder
from segcore.structures import Prediction


class CropDecoder(nn.Module):
    """Decode every view alone, fuse the views' queries, decode all views together.

    Args:
        decoder: used for both passes, weights and all.
        num_fusion_layers: of the association module between them.
    """

    def __init__(
        self,
        decoder: MaskedDecoder,
        *,
        dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        num_fusion_layers: int = 1,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.fusion = nn.ModuleList(
            DecoderLayer(dim, num_heads, ffn_dim) for _ in range(num_fusion_layers)
        )

    def forward(
        self, pyramid: list[Tensor], mask_features: Tensor, views: int, aux: bool = True
    ) -> tuple[list[Prediction], list[Prediction]]:
        """Ten predictions of B*T stills and ten of B samples with T views each.

        Args:
            pyramid: levels (B*T, C, h, w), coarse to fine.
            mask_features: (B*T, D, H/4, W/4).
            aux: False: only the last prediction of each pass.
        """
        per_view, queries = self.decoder(pyramid, mask_features, aux=aux)
        fused = self.fuse(queries, views)
        joint, _ = self.decoder(pyramid, mask_features, views, fused, aux=aux)
        return per_view, joint

    def fuse(self, queries: Tensor, views: int) -> Tensor:
        """(B*T, Q, C) -> (B, Q, C): the whole image's queries read those of every view."""
        by_view = queries.unflatten(0, (-1, views))  # (B, T, Q, C)
        _, code = self.decoder.learned()
        fused, memory = by_view[:, 0], by_view.flatten(1, 2)  # (B, Q, C), (B, T*Q, C)
        coded = memory + code.repeat(views, 1)
        for layer in self.fusion:
            fused = layer(fused, code, memory, coded, self_code=False)
        return fused

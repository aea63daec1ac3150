"""Feature Pyramid Networks (Lin et al., 2017).

Legend of one-letter names: B images, C channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def fan_in_uniform(weight: Tensor) -> None:
    """Uniform within sqrt(3 / fan_in): what Caffe2 called Xavier, and detectron2 uses."""
    nn.init.kaiming_uniform_(weight, a=1)


class FPN(nn.Module):
    """p2..p6: every level sees all that is coarser; p6 is every second cell of p5.

    Args:
        channels: of res2..res5.
        fill: initialises a convolution's weight in place.
    """

    strides = (4, 8, 16, 32, 64)

    def __init__(
        self,
        channels: Sequence[int],
        out: int = 256,
        *,
        fill: Callable[[Tensor], object] = fan_in_uniform,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)
        self.output = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in channels)
        for conv in (*self.lateral, *self.output):
            fill(conv.weight)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """res2..res5 (B, C, h, w) -> p2..p6 (B, out, h, w)."""
        pyramid: list[Tensor] = []
        above = None
        for lateral, output, x in zip(
            reversed(self.lateral), reversed(self.output), reversed(features), strict=True
        ):
            inner = lateral(x)
            if above is not None:
                inner = inner + F.interpolate(above, inner.shape[-2:], mode="nearest")
            above = inner
            pyramid.append(output(inner))
        pyramid.reverse()
        return [*pyramid, pyramid[-1][:, :, ::2, ::2]]

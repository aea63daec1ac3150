"""Mixed precision without copies of what the model says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning_fabric.plugins.precision.amp import MixedPrecision

from segcore.structures import Outputs


class LeanMixedPrecision(MixedPrecision):
    """Fabric's, except that predictions stay as they were computed.

    Masks of all queries and layers as float32 would fill memory (0.25 GB an image of 1024x1024)
    for losses that look at the matched ones alone, and make float32 of those themselves.
    """

    def convert_input(self, data: Any) -> Any:
        """As it is: images are uint8, and targets hold what Fabric cannot walk through."""
        return data

    def convert_output(self, data: Any) -> Any:
        """The rest of a model's outputs in float32: losses of refiners count on it."""
        if not isinstance(data, Outputs):
            return super().convert_output(data)
        rest: Outputs = super().convert_output(replace(data, layers=[], per_view=[]))
        return replace(rest, layers=data.layers, per_view=data.per_view)

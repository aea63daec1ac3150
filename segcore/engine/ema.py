"""The exponential moving average of a model's weights (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Ema:
    """Averages of trained parameters and of buffers, on their device.

    An update follows every step that the optimizer does: fp16's scaler skips those whose gradients
    overflow, and then nothing is averaged. Ranks have the same averages as they have the same
    weights; buffers that a step changes (BatchNorm's) are each rank's own, in the model too.

    Args:
        decay: of the average, from 0 to 1. Update n from 0 has min(decay, (1 + n) / (10 + n)), so
            that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, decay: float) -> None:
        self.model, self.decay = model, decay
        self.updates = 0
        self._state: dict[str, Tensor] = {}  # under the model's names; what never moves is its own
        self._pairs: list[tuple[Tensor, Tensor]] = []  # the model's, the average
        optimizer.register_step_post_hook(lambda *_: self.update())

    def begin(self, updates: int = 0) -> None:
        """Start from the model's weights, when they are where they will be trained."""
        frozen = {p.data_ptr() for p in self.model.parameters() if not p.requires_grad}
        averages: dict[int, Tensor] = {}  # by address: a tensor may have several names
        self.updates, self._pairs = updates, []
        for name, own in self.model.state_dict().items():
            address = own.data_ptr()
            if not own.numel() or not own.is_floating_point() or address in frozen:
                self._state[name] = own
                continue
            if address not in averages:
                averages[address] = own.clone()
                self._pairs.append((own, averages[address]))
            self._state[name] = averages[address]

    @property
    def begun(self) -> bool:
        """Whether there are averages."""
        return bool(self._state)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of a step."""
        if not self.begun:
            raise RuntimeError("begin() comes before the first step: the start belongs to it")
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        own, averages = ([pair[i] for pair in self._pairs] for i in (0, 1))
        torch._foreach_lerp_(averages, own, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The averages under the model's names."""
        return dict(self._state)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages inside, and its own weights again afterwards, bit for bit."""
        if not self.begun:
            self.begin()
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """In place: whoever holds a tensor, as a compiled graph does, sees the other content."""
        for own, average in self._pairs:
            held = own.clone()
            own.copy_(average)
            average.copy_(held)

"""Training transforms: the image changes at once, annotations when the last window is known.

Every transform but a last rotation is axis-aligned, so an annotation's fate is one source index per
output row and column (and, for polygons, a scale and a shift per axis). Masks are read through
these once, at the end: nothing of size N x H x W exists at the original size.

Randomness comes in as a numpy generator. Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from segcore.data.turn import Turn

PAD = 128  # grey of padded image area


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Where the pixels of one axis come from."""

    pixels: np.ndarray  # (n,) int source index by Pillow's nearest rule, -1: padding
    labels: np.ndarray  # (n,) the same by torch's nearest rule, for semantic maps
    scale: float  # output coordinate = scale * source coordinate + shift
    shift: float

    @classmethod
    def whole(cls, length: int) -> Axis:
        """The axis as it is in the file."""
        index = np.arange(length)
        return cls(pixels=index, labels=index, scale=1.0, shift=0.0)

    def resize(self, new: int) -> Axis:
        """Nearest neighbours. Upstream resizes ids (uint8) with Pillow and labels with torch,
        whose rules differ: pixel centres here, left edges there; kept."""
        old = len(self.pixels)
        steps = np.full(new, old / new)
        steps[0] /= 2
        centre = np.floor(np.cumsum(steps)).astype(np.int64)  # summed up, as Pillow does
        left = np.floor(np.arange(new, dtype=np.float32) * np.float32(old / new)).astype(np.int64)
        at_centre, at_left = (np.minimum(index, old - 1) for index in (centre, left))
        ratio = new / old
        return Axis(
            pixels=self.pixels[at_centre],
            labels=self.labels[at_left],
            scale=self.scale * ratio,
            shift=self.shift * ratio,
        )

    def crop(self, start: int, stop: int) -> Axis:
        """Output pixels start..stop-1."""
        pixels, labels = self.pixels[start:stop], self.labels[start:stop]
        return replace(self, pixels=pixels, labels=labels, shift=self.shift - start)

    def flip(self) -> Axis:
        """Mirrored."""
        return Axis(
            pixels=self.pixels[::-1],
            labels=self.labels[::-1],
            scale=-self.scale,
            shift=len(self.pixels) - self.shift,
        )

    def pad(self, new: int) -> Axis:
        """Nothing, after the end."""
        more = np.full(new - len(self.pixels), -1)
        pixels, labels = (np.concatenate((part, more)) for part in (self.pixels, self.labels))
        return replace(self, pixels=pixels, labels=labels)


Resample = Callable[[np.ndarray, int, int], np.ndarray]  # (H, W, 3) uint8, height, width


def pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, antialiased when shrinking: detectron2's way to resize."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True)
class Example:
    """An image on its way, and where its pixels come from."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    y: Axis
    x: Axis
    semantic: np.ndarray | None = None  # (H0, W0) class of the file's pixels, -1: ignored
    resample: Resample = pillow
    turn: Turn | None = None  # after all else

    @classmethod
    def whole(
        cls,
        image: np.ndarray,
        semantic: np.ndarray | None = None,
        *,
        resample: Resample = pillow,
    ) -> Example:
        """As it is in the file."""
        y, x = (Axis.whole(length) for length in image.shape[:2])
        return cls(image, y, x, semantic, resample)

    @property
    def mirrored(self) -> bool:
        """Flipped once; what is flipped both ways is turned, and its left is left."""
        return (self.x.scale < 0) != (self.y.scale < 0)

    def resize(self, height: int, width: int) -> Example:
        """To another size, as `resample` does it."""
        image = self.image
        if image.shape[:2] != (height, width):
            image = self.resample(image, height, width)
        return replace(self, image=image, y=self.y.resize(height), x=self.x.resize(width))

    def crop(self, *, y: int, x: int, height: int, width: int) -> Example:
        """The window at (y, x)."""
        image = self.image[y : y + height, x : x + width]
        return replace(self, image=image, y=self.y.crop(y, y + height), x=self.x.crop(x, x + width))

    def pad(self, height: int, width: int) -> Example:
        """Grey, right and below."""
        h, w = self.image.shape[:2]
        image = np.full((height, width, 3), PAD, np.uint8)
        image[:h, :w] = self.image
        return replace(self, image=image, y=self.y.pad(height), x=self.x.pad(width))

    def read(self, maps: np.ndarray, fill: int, *, labels: bool = False) -> np.ndarray:
        """A map (H0, W0) of the file, seen through the window: (H, W)."""
        rows, columns = (self.y.labels, self.x.labels) if labels else (self.y.pixels, self.x.pixels)
        seen = maps[rows[:, None], columns]
        outside = (rows < 0)[:, None] | (columns < 0)
        if outside.any():
            seen = np.where(outside, np.asarray(fill, maps.dtype), seen)
        return seen if self.turn is None else self.turn.nearest(seen, fill)


def shortest_edge(height: int, width: int, *, edge: int, longest: int) -> tuple[int, int]:
    """New size with the given shorter edge, unless the longer one would pass `longest`.

    0 as the shorter edge keeps the size, as in detectron2.
    """
    if edge <= 0:
        return height, width
    scale = edge / min(height, width)
    new_h, new_w = (edge, scale * width) if height < width else (scale * height, edge)
    if max(new_h, new_w) > longest:
        shrink = longest / max(new_h, new_w)
        new_h, new_w = new_h * shrink, new_w * shrink
    return max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))


@dataclass(frozen=True, slots=True)
class ResizeShortestEdge:
    """Shorter edge drawn from `sizes` (0: as it is); the longer at most `max_size`."""

    sizes: tuple[int, ...]
    max_size: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        edge = int(self.sizes[int(rng.integers(len(self.sizes)))])
        h, w = example.image.shape[:2]
        return example.resize(*shortest_edge(h, w, edge=edge, longest=self.max_size))


@dataclass(frozen=True, slots=True)
class RandomFlip:
    """Left to right, half of the time."""

    probability: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        image = np.ascontiguousarray(example.image[:, ::-1])
        return replace(example, image=image, x=example.x.flip())


@dataclass(frozen=True, slots=True)
class RandomVerticalFlip:
    """Upside down, for a share of the images."""

    probability: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= self.probability:
            return example
        image = np.ascontiguousarray(example.image[::-1])
        return replace(example, image=image, y=example.y.flip())


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """A window of at most `size`; if asked, not filled by one class."""

    size: tuple[int, int]
    max_area: float = 1.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        tries = 1 if self.max_area >= 1 or example.semantic is None else 10
        window = example
        for _ in range(tries):
            h, w = (min(a, b) for a, b in zip(self.size, example.image.shape[:2], strict=True))
            y = int(rng.integers(example.image.shape[0] - h + 1))
            x = int(rng.integers(example.image.shape[1] - w + 1))
            window = example.crop(y=y, x=x, height=h, width=w)
            if tries == 1 or self._mixed(window):
                break
        return window  # the last try counts, mixed or not

    def _mixed(self, window: Example) -> bool:
        assert window.semantic is not None
        labels = window.read(window.semantic, -1, labels=True)
        counts = np.unique(labels[labels >= 0], return_counts=True)[1]
        return len(counts) > 1 and counts.max() < counts.sum() * self.max_area


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeScale:
    """Large-scale jitter: fit into the target times a random factor."""

    min_scale: float
    max_scale: float
    height: int
    width: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        h, w = example.image.shape[:2]
        factor = rng.uniform(self.min_scale, self.max_scale)
        scale = min(self.height * factor / h, self.width * factor / w)
        return example.resize(max(1, int(np.round(h * scale))), max(1, int(np.round(w * scale))))


@dataclass(frozen=True, slots=True)
class FixedSizeCrop:
    """A window of exactly `size`, padded where the image ends."""

    size: tuple[int, int]

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        u = rng.random()  # one draw for both axes, as upstream: the corner slides on the diagonal
        room = [max(a - b, 0) for a, b in zip(example.image.shape[:2], self.size, strict=True)]
        y, x = (int(np.round(r * u)) for r in room)
        h, w = (min(a, b) for a, b in zip(example.image.shape[:2], self.size, strict=True))
        return example.crop(y=y, x=x, height=h, width=w).pad(*self.size)


@dataclass(frozen=True, slots=True)
class PadTo:
    """Pad, or cut, to a square: INPUT.SIZE_DIVISIBILITY, which never divided anything."""

    side: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        h, w = (min(edge, self.side) for edge in example.image.shape[:2])
        return example.crop(y=0, x=0, height=h, width=w).pad(self.side, self.side)

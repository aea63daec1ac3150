"""The whole image and windows of it, each resized to the same shorter edge.

Legend of one-letter names: T views, N segments, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch

from cropformer.windows import Box, crop_windows
from segcore.data.images import read_image
from segcore.data.transforms import Example, RandomFlip, shortest_edge
from segcore.data.views import check_size, padded_sample, segments_in, whole_box
from segcore.structures import Metadata, Record, Sample, Targets


class CropViews:
    """Samples of T views: the image, then crops.

    Args:
        sizes: shorter edges to draw from in training, one for all views.
        max_size: longest edge in training, and of windows at test time.
        min_size_test: shorter edge of all views at test time.
        max_size_test: longest edge of the whole image there.
        crop, stride: of a window, as shares of each side.
        num_train: crops drawn in training.
        num_test: windows taken at test time, at most; 0: the whole image alone.
        flip: whether half of the training images are mirrored.
    """

    def __init__(
        self,
        *,
        metadata: Metadata,
        sizes: tuple[int, ...],
        max_size: int,
        min_size_test: int,
        max_size_test: int,
        crop: float = 0.7,
        stride: float = 0.6,
        num_train: int = 1,
        num_test: int = 4,
        flip: bool = True,
    ) -> None:
        self.metadata = metadata
        self.sizes, self.max_size = sizes, max_size
        self.min_size_test, self.max_size_test = min_size_test, max_size_test
        self.crop, self.stride, self.flip = crop, stride, flip
        self.num_train, self.num_test = num_train, num_test

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """Views padded to a common size; segments are the same rows in all of them."""
        image = read_image(record.frames[0].file)
        check_size(record, image)
        if rng is None:
            return self.test(image, record)
        edge = int(self.sizes[int(rng.integers(len(self.sizes)))])
        example = RandomFlip()(Example.whole(image), rng) if self.flip else Example.whole(image)
        windows = crop_windows(record.size, self.crop, self.stride)
        chosen = rng.choice(len(windows), min(self.num_train, len(windows)), replace=False)
        boxes = [whole_box(record), *(windows[i] for i in chosen)]
        views = [self._view(example, box, edge, self.max_size) for box in boxes]
        segments, shapes = segments_in(views, record)
        labels = [s.category for s in segments]
        return padded_sample(_images(views), boxes, _targets(labels, shapes, views), record)

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """The image and every window, without targets; also for images that have no record.

        Windows have the cap of training, the image alone that of the test: so does the published
        mapper, by which the published numbers were made. (The same authors' demo has the cap of
        the test for both.)
        """
        windows = crop_windows(record.size, self.crop, self.stride)[: self.num_test]
        boxes = [whole_box(record), *windows]
        caps = [self.max_size_test, *(self.max_size for _ in windows)]
        example, edge = Example.whole(image), self.min_size_test
        views = [self._view(example, b, edge, cap) for b, cap in zip(boxes, caps, strict=True)]
        return padded_sample(_images(views), boxes, None, record)

    def _view(self, example: Example, box: Box, edge: int, longest: int) -> Example:
        x0, y0, x1, y1 = box
        view = example.crop(y=y0, x=x0, height=y1 - y0, width=x1 - x0)
        if edge <= 0:
            return view
        return view.resize(*shortest_edge(y1 - y0, x1 - x0, edge=edge, longest=longest))


def _images(views: list[Example]) -> list[np.ndarray]:
    return [view.image for view in views]


def _targets(labels: list[int], shapes: list[list[np.ndarray]], views: list[Example]) -> Targets:
    """Masks of every segment in every view, padded: (N, T, H, W)."""
    height = max(v.image.shape[0] for v in views)
    width = max(v.image.shape[1] for v in views)
    masks = torch.zeros(len(labels), len(views), height, width, dtype=torch.bool)
    for row, in_views in zip(masks, shapes, strict=True):
        for out, mask in zip(row, in_views, strict=True):
            out[: mask.shape[0], : mask.shape[1]] = torch.from_numpy(mask)
    return Targets(torch.tensor(labels, dtype=torch.int64), masks, masks.flatten(2).any(2))

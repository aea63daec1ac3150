"""The values that cross module borders: records at rest, samples, batches, predictions, results.

Legend of one-letter names: B samples, T views or frames, Q queries, N segments, K classes,
C channels, H W input pixels, h w feature cells.
Boxes are x0 y0 x1 y1, sizes are (height, width), images RGB uint8, everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]  # height, width


# ---------------------------------------------------------------- at rest: what the files say


class Rle(TypedDict):
    """A mask as pycocotools writes it: `{"size": [H, W], "counts": bytes}`."""

    size: list[int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Polygons:
    """A mask as the union of polygons, each a flat tuple x0 y0 x1 y1 ... in pixels."""

    rings: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class PngId:
    """The pixels of the frame's panoptic PNG whose R + 256 G + 65536 B (or grey value) is `id`."""

    id: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One annotated thing or stuff region of one frame."""

    category: int  # contiguous class, 0..K-1
    shape: Rle | Polygons | PngId
    crowd: bool = False
    area: float | None = None  # as the file says; None: count the pixels
    track: int | None = None  # which object of the video


@dataclass(frozen=True, slots=True)
class Frame:
    """One image file and what was annotated in it."""

    file: Path  # an image, or a path below a zip file: images.zip/name.jpg
    segments: tuple[Segment, ...] = ()
    panoptic: Path | None = None  # the PNG that PngId refers to
    semantic: Path | None = (
        None  # a PNG of raw label values; Metadata.label_map says what they mean
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One annotated image or video, as the files have it; no pixels."""

    id: int | str
    size: Size
    frames: tuple[Frame, ...]  # one for a still image
    # LVIS: contiguous classes of which there is nothing, and of which not all is annotated
    negatives: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the classes of a data set are called and how they are numbered in its files."""

    name: str
    classes: tuple[str, ...]  # K names, by contiguous class
    dataset_ids: tuple[int, ...]  # K ids in the annotation files, by contiguous class
    is_thing: tuple[bool, ...]  # K
    colors: tuple[tuple[int, int, int], ...]  # K, RGB 0..255
    ignore_label: int = 255  # raw value in semantic PNGs that means "not annotated"
    label_map: dict[int, int] | None = None  # raw semantic value -> class; None: they are the same
    evaluators: tuple[str, ...] = ()  # "semantic", "panoptic", "instance", "boundary", ...
    boundary_dilation: float = 0.02  # of Boundary AP, as a share of the image's diagonal
    frequencies: tuple[str, ...] = ()  # LVIS: K times "r" rare, "c" common or "f" frequent
    absent: tuple[int, ...] = ()  # classes of a model that this data set does not know
    strict_labels: bool = False  # label values that label_map does not name are errors, not ignored

    @property
    def row_names(self) -> tuple[str, ...]:
        """K names for the rows of tables, all different: where a name stands twice, with ids."""
        often = Counter(self.classes)
        rows = zip(self.classes, self.dataset_ids, strict=True)
        return tuple(f"{name} (id {i})" if often[name] > 1 else name for name, i in rows)

    def as_entities(self) -> Metadata:
        """The same data set without classes: everything is an entity."""
        one = ("entity",), (1,), (True,), ((220, 60, 60),)
        classes, ids, things, colors = one
        same = replace(self, classes=classes, dataset_ids=ids, is_thing=things, colors=colors)
        return replace(same, frequencies=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint carries them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Metadata:
        """The inverse of `to_dict`, also after JSON has made lists of tuples."""
        v = values
        label_map = v.get("label_map")
        return cls(
            str(v["name"]),
            tuple(str(x) for x in v["classes"]),
            tuple(int(x) for x in v["dataset_ids"]),
            tuple(bool(x) for x in v["is_thing"]),
            tuple((int(r), int(g), int(b)) for r, g, b in v["colors"]),
            int(v.get("ignore_label", 255)),
            None if label_map is None else {int(k): int(x) for k, x in label_map.items()},
            tuple(str(x) for x in v.get("evaluators", ())),
            float(v.get("boundary_dilation", 0.02)),
            tuple(str(x) for x in v.get("frequencies", ())),
        )


# ---------------------------------------------------------------- in flight: pixels


@dataclass(slots=True)
class Targets:
    """What should be found in one sample."""

    labels: Tensor  # (N,) int64, 0..K-1
    masks: Tensor  # (N, T, H, W) bool
    present: Tensor  # (N, T) bool: the segment shows in that view
    # outlines in input pixels, for detectors of stills; None: there are none, of one or of all
    polygons: list[Polygons | None] | None = None
    size: Size | None = None  # of the masks without padding; None: they have none

    def per_view(self) -> list[Targets]:
        """T still-image targets of all segments; `present` says which ones show in it."""
        return [
            replace(
                self,
                masks=self.masks[:, t : t + 1],
                present=self.present[:, t : t + 1],
                polygons=None,
            )
            for t in range(self.present.shape[1])
        ]


@dataclass(slots=True)
class Sample:
    """One training or test example: a still (T = 1), an image and its crops, or frames."""

    views: Tensor  # (T, 3, H, W) uint8 RGB; a patch to refine has its coarse mask as a fourth
    sizes: Tensor  # (T, 2) int64 height and width without padding
    boxes: Tensor  # (T, 4) where each view lies in the original image, x0 y0 x1 y1
    targets: Targets | None
    record: Record


@dataclass(slots=True)
class VideoFrame:
    """One frame of a video, as it was read."""

    index: int  # in the video, from 0
    name: str  # its file, or the video's
    image: NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(slots=True)
class Batch:
    """Samples padded (right, bottom, with zeros) to a common size, a multiple of the divisor."""

    images: Tensor  # (B, T, 3, H, W) uint8; the model normalises, then zeroes the padding
    sizes: Tensor  # (B, T, 2) int64, kept on the CPU: the model reads them without a sync
    boxes: Tensor  # (B, T, 4)
    targets: list[Targets] = field(default_factory=list[Targets])  # empty at test time
    records: list[Record] = field(default_factory=list[Record])

    @classmethod
    def collate(cls, samples: Sequence[Sample], divisor: int = 32) -> Batch:
        """Stack samples of equal T; masks are padded with False."""
        height = max(s.views.shape[-2] for s in samples)
        width = max(s.views.shape[-1] for s in samples)
        H, W = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        T, channels = samples[0].views.shape[:2]
        images = torch.zeros(len(samples), T, channels, H, W, dtype=torch.uint8)
        for image, sample in zip(images, samples, strict=True):
            image[..., : sample.views.shape[-2], : sample.views.shape[-1]] = sample.views
        targets = [_pad(s.targets, H, W) for s in samples if s.targets is not None]
        return cls(
            images,
            torch.stack([s.sizes for s in samples]),
            torch.stack([s.boxes for s in samples]),
            targets,
            [s.record for s in samples],
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its pixels and targets on another device (sizes stay)."""
        if self.images.device == torch.device(device):
            return self
        tensors = [x for t in self.targets for x in (t.labels, t.masks, t.present)]
        images, *rest = _to([self.images, *tensors], torch.device(device))
        moved = zip(self.targets, rest[::3], rest[1::3], rest[2::3], strict=True)
        return replace(
            self,
            images=images,
            targets=[
                replace(t, labels=labels, masks=masks, present=present)
                for t, labels, masks, present in moved
            ],
        )

    def counts(self) -> Tensor:
        """(2,) float: sum of N, sum of `present`: what the losses are divided by."""
        segments = sum(len(t.labels) for t in self.targets)
        shown = sum(int(t.present.sum()) for t in self.targets)
        return torch.tensor([segments, shown], dtype=torch.float32)


def _to(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """On another device; views of one memory, as a loader makes them, in one copy."""
    moved: dict[tuple[int, torch.dtype], Tensor] = {}
    out: list[Tensor] = []
    for x in tensors:
        memory = x.untyped_storage()
        key = memory.data_ptr(), x.dtype
        if key not in moved:
            whole = x.as_strided((memory.nbytes() // x.element_size(),), (1,), 0)
            moved[key] = whole.to(device, non_blocking=True)
        out.append(moved[key].as_strided(x.shape, x.stride(), x.storage_offset()))
    return out


def _pad(targets: Targets, H: int, W: int) -> Targets:
    h, w = targets.masks.shape[-2:]
    if (h, w) == (H, W):
        return targets
    masks = targets.masks.new_zeros(*targets.masks.shape[:2], H, W)
    masks[..., :h, :w] = targets.masks
    return replace(targets, masks=masks, size=(h, w))


# ---------------------------------------------------------------- out of the model


@dataclass(slots=True)
class Prediction:
    """What one decoder layer says."""

    logits: Tensor  # (B, Q, K+1), last class: no object
    masks: Tensor  # (B, Q, T, h, w) logits at stride 4


@dataclass(slots=True)
class Regions:
    """Boxes in which a refiner works, and what it says there."""

    sample: Tensor  # (R,) int64 which sample
    boxes: Tensor  # (R, 4) in input pixels
    labels: Tensor  # (R,) int64; in training K is background
    logits: list[Tensor] = field(default_factory=list[Tensor])  # per stage (R, 1, s, s)
    scores: Tensor | None = None  # (R,) at test time, best first within a sample
    matched: Tensor | None = None  # (R,) int64 row in its sample's targets, in training
    probabilities: Tensor | None = None  # (R, s, s) at test time: the answer
    extras: dict[str, Tensor] = field(default_factory=dict[str, Tensor])  # what losses need besides


@dataclass(slots=True)
class Proposals:
    """What a two-stage detector says before its masks, as its losses look at it in training.

    A anchors, R regions (sampled proposals).
    """

    truth: list[Tensor]  # B times (N, 4): boxes of the targets
    anchors: Tensor  # (A, 4)
    usable: Tensor  # (B, A) bool: anchors that may be trained
    logits: Tensor  # (B, A) is there an object
    deltas: Tensor  # (B, A, 4)
    regions: Regions
    class_logits: Tensor  # (R, K+1), last class: background
    box_deltas: Tensor  # (R, K, 4)


@dataclass(slots=True)
class Outputs:
    """All that a model says of a batch; `layers[-1]` is the answer."""

    layers: list[Prediction]
    per_view: list[Prediction] = field(
        default_factory=list[Prediction]
    )  # CropFormer's first pass, B*T stills
    features: list[Tensor] = field(default_factory=list[Tensor])  # fine to coarse, for a refiner
    regions: Regions | None = None
    proposals: Proposals | None = None  # of a two-stage detector, in training
    queries: Tensor | None = None  # (B, Q, C) what the last layer knows each query's object by


@dataclass(slots=True)
class PanopticSegment:
    """One segment of a panoptic map."""

    id: int  # its value in the map, from 1
    category: int  # contiguous class
    is_thing: bool
    score: float
    area: int  # pixels


@dataclass(slots=True)
class Panoptic:
    """A map of segment ids (0: nothing) and the segments in it."""

    map: Tensor  # (H, W) int32
    segments: list[PanopticSegment]


@dataclass(slots=True)
class Instances:
    """Objects of an image, best first; masks may overlap."""

    scores: Tensor  # (N,) float32
    labels: Tensor  # (N,) int64 contiguous class
    masks: list[Rle]  # N
    # (N, 4) x0 y0 x1 y1 with x1 y1 exclusive: tight around the masks, or as a detector says
    boxes: Tensor


@dataclass(slots=True)
class Tracks:
    """Objects of a clip, best first; masks may overlap."""

    scores: Tensor  # (N,) float32
    labels: Tensor  # (N,) int64 contiguous class
    masks: list[list[Rle]]  # N lists of T, an empty mask where the object is absent
    # (N, C) float32, alike for the same object in another clip; None: the model says nothing of it
    embeddings: Tensor | None = None


@dataclass(slots=True)
class Result:
    """Final, at the original size, on the CPU."""

    semantic: Tensor | None = None  # (H, W) uint8 or int16 class
    panoptic: Panoptic | None = None
    instances: Instances | None = None
    tracks: Tracks | None = None  # of a clip, in place of instances

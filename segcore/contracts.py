"""What parts promise each other. Protocols, no base classes.

Legend of one-letter names: B samples, T views, H W input pixels, h w feature cells, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from segcore.structures import (
    Batch,
    Metadata,
    Outputs,
    Record,
    Regions,
    Result,
    Rle,
    Sample,
    Size,
    Targets,
)


@dataclass(frozen=True, slots=True)
class AugmentedOutputs:
    """What the model says of one image at one size, as test-time augmentation averages it."""

    outputs: Outputs
    batch: Batch  # of this image alone
    mirrored: bool
    classes: tuple[int, ...] | None = None  # what each class is called here; None: by its own name


class Backbone(Protocol):
    """Feature maps res2..res5 in detectron2's words, fine to coarse."""

    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> one (B, C, h, w) a level."""
        ...


class SegmentationModel(Protocol):
    """A pure function of pixels; targets only for models that choose regions in training."""

    def __call__(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8, (B, T, 2) on the CPU -> Outputs.

        `aux` False: only the last layer's prediction, which is all that results need.
        """
        ...


class PostProcessor(Protocol):
    """From logits to results at the original size."""

    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]: ...


class GraphResults(Protocol):
    """From logits to results in an exported graph: tensors of fixed shapes, at the input's size."""

    def __call__(
        self, logits: Tensor, masks: Tensor, sizes: Tensor, canvas: Size
    ) -> dict[str, Tensor]:
        """(Q, K+1), (Q, T, h, w), (T, 2) without padding, (H, W) with it -> tensors by name."""
        ...


class MaskHead(Protocol):
    """Masks inside boxes: the plain head of Mask R-CNN, or a refiner in its place."""

    def __call__(self, features: list[Tensor], regions: Regions) -> Regions:
        """Feature maps p2..p5 (B, C, h, w) and boxes -> the same boxes with what is in them.

        In training (`regions.matched` is given, all regions are foreground) `logits` and `extras`
        for the losses; else `probabilities` (R, s, s), best regions of a sample first.
        """
        ...


class MaskRefiner(Protocol):
    """Better masks of an image, whatever model they are from."""

    def __call__(self, image: np.ndarray, rles: Sequence[Rle], /) -> list[Rle]:
        """(H, W, 3) uint8 RGB and masks of that size -> as many masks, in the same order."""
        ...


class ViewSampler(Protocol):
    """From an annotated file to pixels. `rng` None means test time: no randomness, no targets."""

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A sample; None in training where nothing of the record can be used."""
        ...

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """Of pixels (H, W, 3) uint8 RGB that no file holds, at test time."""
        ...


@runtime_checkable
class StillSampler(ViewSampler, Protocol):
    """Of one view, the whole image or a window of it, whose objects may go onto another one."""

    def with_segments(self) -> ViewSampler:
        """The same views with a mask a segment in training, whatever their targets are."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Made anew for every evaluation; knows nothing of ranks."""

    parts: list[Any]  # picklable; the engine gathers them onto rank 0

    def update(self, result: Result, record: Record) -> None: ...

    def compute(self) -> dict[str, float]:
        """Numbers in percent by metric name ("PQ", "AP50", "mIoU"; per class "AP-person")."""
        ...


class EvaluatorFactory(Protocol):
    """Makes an evaluator of a data set."""

    def __call__(
        self,
        metadata: Metadata,
        *,
        kinds: tuple[str, ...],
        truth: Callable[[Record], Record] | None,
    ) -> Evaluator:
        """`kinds`: the names in the data set's `evaluators` that it stands for; `truth`: from a
        record to the one whose segments are the instances, None where that is the same."""
        ...


def everywhere_one(name: str) -> float:
    """Every parameter learns at the base rate."""
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """A parameter that has rows of its own for every class.

    Args:
        name: how the parameter's name ends.
        each: rows of one class, one after the other (4 for a detector's box deltas).
        background: where "no object" has its rows; None: it has none.
    """

    name: str
    each: int = 1
    background: Literal["first", "last"] | None = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that the framework must know of an architecture.

    Args:
        losses: weighted; the Tensor is `Batch.counts`, averaged over ranks and batches.
        renames: official state-dict names -> the model's.
        official: the model's -> official.
        metadata: the classes of the results.
        makes: what its results hold: "semantic", "panoptic", "instance" or "entity", which takes
            the place of whatever else a data set is evaluated by.
        needs: what training data must have: segments, label images, or one of them.
        class_rows: parameters that another set of classes changes.
        query_rows: ends of the names of parameters with one row a query.
        training_only: beginnings of the names of parameters that results do not need; a trained
            checkpoint may lack them.
        rates: factor of the base learning rate, by parameter name.
        average: one result of several outputs of an image, for test-time augmentation.
        precision: of inference; weights and results stay float32.
        graph_results: of an exported model; None: it gives its logits alone.
        no_graph: why the model cannot be exported; "": it can.
        clips: the model was made for videos: all frames of a clip are views of one sample, and its
            results hold tracks.
        prepared: by the class of a module, what takes its place for inference on a CPU, as
            `segcore.nn.prepared` says; None: the model has parts that nobody knows, and stays.
        trained: by the class of a module, the class that it has instead while it is trained on a
            CPU, or what changes the classes of its parts, as `segcore.nn.cpu_training` says,
            besides those of layers that models share.
    """

    model: nn.Module  # a SegmentationModel
    losses: Callable[[Outputs, list[Targets], Tensor], dict[str, Tensor]]
    postprocess: PostProcessor
    views: ViewSampler
    renames: Callable[[dict[str, Any]], dict[str, Any]]
    official: Callable[[dict[str, Any]], dict[str, Any]]
    metadata: Metadata
    makes: tuple[str, ...]
    needs: Literal["segments", "labels", "either"] = "either"
    class_rows: tuple[ClassRows, ...] = ()
    query_rows: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    rates: Callable[[str], float] = everywhere_one
    average: Callable[[Sequence[AugmentedOutputs]], Result] | None = None
    precision: torch.dtype = torch.float32
    graph_results: GraphResults | None = None
    no_graph: str = ""
    clips: bool = False
    prepared: Mapping[type[nn.Module], Callable[[Any, torch.dtype], nn.Module]] | None = None
    trained: Mapping[type[nn.Module], type[nn.Module] | Callable[[Any], None]] = field(
        default_factory=dict
    )

    def infer(self, batch: Batch, device: torch.device, aux: bool = False) -> Outputs:
        """What the model says of a batch, without gradients.

        Args:
            aux: False: what results are made of alone: the last layer's prediction, and none of
                the feature maps, which would fill memory until the results are there.
        """
        mixed = self.precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, self.precision, enabled=mixed):
            outputs: Outputs = self.model(batch.images.to(device), batch.sizes, aux=aux)
        return outputs if aux else replace(outputs, features=[])

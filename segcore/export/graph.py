"""A model as a graph of fixed outputs: pixels in, logits of classes and masks out.

Legend of one-letter names: T views, Q queries, K classes, H W input pixels, h w cells of the masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segcore.contracts import GraphResults, Task
from segcore.errors import ConfigError
from segcore.export.facts import DIVISOR, KINDS, Wanted
from segcore.nn.ms_deform_attn import deform_attn, deform_attn_by_grid_sample
from segcore.structures import Size

MOST = 128  # times the divisor: the largest side of a graph without fixed sizes


class Graph(nn.Module):
    """One image: its views' pixels and sizes -> named tensors.

    Args:
        model: a SegmentationModel; its last layer's answer counts.
        results: adds what is made of it; None: nothing.
    """

    def __init__(self, model: nn.Module, results: GraphResults | None = None) -> None:
        super().__init__()
        self.model, self.results = model, results

    def named(self, pixels: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """What `forward` gives, by name.

        Args:
            pixels: (T, 3, H, W) RGB, 0 to 255, uint8 or float.
            sizes: (T, 2) int64 height and width of each view without padding.

        Returns: logits (Q, K+1), masks (Q, T, h, w), and what `results` adds.
        """
        images = pixels.clone() if pixels.is_floating_point() else pixels  # changed in place
        said = self.model(images[None], sizes[None], aux=False).layers[-1]
        logits, masks = said.logits[0], said.masks[0]
        named = {"logits": logits, "masks": masks}
        if self.results is not None:
            named |= self.results(logits, masks, sizes, (pixels.shape[-2], pixels.shape[-1]))
        return named

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """The values of `named`."""
        return tuple(self.named(pixels, sizes).values())


def refuse_model(task: Task) -> None:
    """ConfigError where no graph can hold the task's model."""
    if task.clips:
        raise ConfigError("a model for clips cannot be exported; models for images can")
    if task.no_graph:
        raise ConfigError(f"this model cannot be exported: {task.no_graph}")


def graph_of(task: Task, wanted: Wanted) -> Graph:
    """The task's model in eval mode; ConfigError where no graph can hold it as wanted."""
    refuse_model(task)
    if wanted.size and any(side < DIVISOR or side % DIVISOR for side in wanted.size):
        raise ConfigError(
            f"--size {wanted.size[0]} {wanted.size[1]}: expected multiples of {DIVISOR}, as images"
            " are padded to"
        )
    if wanted.post and task.graph_results is None:
        raise ConfigError(
            "--post: this model has no results in a graph; leave the flag out. Where it leaves out"
            " objects that come twice, MODEL.MASK_FORMER.TEST.DUPLICATE_IOU 0 keeps them"
        )
    if wanted.post and wanted.views > 1:
        raise ConfigError(
            f"--post: {wanted.views} views are merged at the image's own size, by where its crops"
            " lie, which a graph does not know; leave the flag out, or take the whole image alone"
            " (ENTITY.CROP_SAMPLE_NUM_TEST 0)"
        )
    model = task.model.eval().requires_grad_(False)
    return Graph(model, task.graph_results if wanted.post else None)


def drawn_input(wanted: Wanted, size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pixels and sizes that try a graph: rectangles and noise, and padding where there is room.

    Args:
        size: height and width with padding.
    """
    H, W = size
    random = torch.Generator().manual_seed(seed)
    image = torch.full((wanted.views, 3, H, W), 110)
    for _ in range(12):
        y, x = (int(torch.randint(0, side, (), generator=random)) for side in size)
        color = torch.randint(0, 256, (3, 1, 1), generator=random)
        image[:, :, y : y + H // 3, x : x + W // 3] = color
    image += torch.randint(-25, 26, image.shape, generator=random)
    image, inside = image.clamp_(0, 255), (H - H // 16, W - W // 12)
    image[..., inside[0] :, :] = 0
    image[..., inside[1] :] = 0
    sizes = torch.tensor([inside]).repeat(wanted.views, 1)
    return image.to(KINDS[wanted.kind]), sizes


@contextmanager
def exportable(graph: Graph, wanted: Wanted) -> Iterator[None]:
    """Inside, modules sample by operators that other runtimes have, unless ours are wanted."""
    changed = [m for m in graph.modules() if getattr(m, "attend", None) is deform_attn]
    try:
        for module in () if wanted.custom else changed:
            module.attend = deform_attn_by_grid_sample  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.attend = deform_attn  # type: ignore[assignment]


def exported(graph: Graph, wanted: Wanted, example: tuple[Tensor, Tensor]) -> ExportedProgram:
    """The graph by torch.export; ConfigError where it cannot follow the model.

    Args:
        example: pixels and sizes.
    """
    shapes: Mapping[str, object] | None = None
    if wanted.size is None:
        rows, columns = (Dim(name, min=2, max=MOST) for name in ("rows", "columns"))
        shapes = {"pixels": {2: DIVISOR * rows, 3: DIVISOR * columns}, "sizes": None}
    with exportable(graph, wanted), torch.no_grad():
        try:
            return torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
        except (RuntimeError, ValueError, TypeError) as error:
            advice = "; give a fixed --size H W" if wanted.size is None else ""
            raise ConfigError(f"torch.export cannot follow this model{advice}: {error}") from error

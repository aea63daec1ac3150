"""Program for the GPU that is none (gpu_stand_in.py): GPU calls and waits of an image's results.

Prints calls and waits of panoptic and instance results, then of CropFormer's entities.
"""

from __future__ import annotations

from pathlib import Path

import torch
from gpu_step import counts

from cropformer import merge
from cropformer.postprocess import EntityPostProcess
from mask2former.postprocess import PostProcess
from segcore.contracts import PostProcessor
from segcore.nn import resize
from segcore.structures import Batch, Frame, Outputs, Prediction, Record

SIDE, Q, K = 1024, 100, 133
computed = resize.marked_cells


def everywhere(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The stand-in computes nothing; results cost most where every mask may be everywhere."""
    rows, columns = computed(maps)
    return torch.ones_like(rows), torch.ones_like(columns)


def report(postprocess: PostProcessor, views: int) -> None:
    """Calls and waits of one image, once everything is set up."""
    gpu = torch.device("cuda")
    logits = torch.zeros(1, Q, K + 1, device=gpu)
    masks = torch.zeros(1, Q, views, SIDE // 4, SIDE // 4, device=gpu)
    sizes = torch.full((1, views, 2), SIDE)
    boxes = torch.tensor([[[0, 0, SIDE, SIDE]] * views])
    record = Record("none", (SIDE, SIDE), (Frame(Path("none")),))
    images = torch.zeros(1, views, 3, SIDE, SIDE, dtype=torch.uint8)
    batch = Batch(images, sizes, boxes, [], [record])
    for _ in range(2):
        before = counts()
        postprocess(Outputs([Prediction(logits, masks)]), batch)
    print(*(counts() - before).tolist()[:2])


if __name__ == "__main__":
    resize.marked_cells = merge.marked_cells = everywhere
    keep_all = {"object_threshold": -1.0}  # all scores are 0 here
    things = (True,) * K
    report(PostProcess(things, semantic=False, panoptic=True, instances=True, **keep_all), 1)
    report(EntityPostProcess(), 5)

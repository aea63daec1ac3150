"""The three-line Python API: a config, weights, images -> results.

predictor = Predictor("configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml")
for result in predictor(["street.jpg", array]):
    print(result.panoptic.segments)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segcore.build.refine import build_refiner
from segcore.build.task import load_task
from segcore.config import Config, load_config
from segcore.data.images import read_image
from segcore.engine.device import choose_device
from segcore.errors import ConfigError, DataError
from segcore.refined import refined
from segcore.structures import Batch, Frame, Outputs, Record, Result, Sample

ImageLike = str | Path | np.ndarray | Image.Image


class Predictor:
    """A model with its weights, ready to look at images; in eval mode, on CUDA where there is one.

    Args:
        config: path of a YAML file, or a loaded Config.
        weights: checkpoint; None takes the config's MODEL.WEIGHTS, "" leaves the model random.
        opts: `KEY VALUE` pairs laid over the YAML file, e.g. ["MODEL.DEVICE", "cpu"].
        refine: weights of a mask refiner that goes over all masks; None takes TEST.REFINE.WEIGHTS,
            "" leaves the masks as they are. How it works is in TEST.REFINE.
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path | None = None,
        opts: Sequence[str] = (),
        *,
        refine: str | Path | None = None,
    ) -> None:
        if isinstance(config, Config) and opts:
            raise ConfigError(
                f"opts {list(opts)} are laid over a file, but a loaded Config is given; lay them"
                " over it before: load_config(path, opts)"
            )
        self.cfg = cfg = config if isinstance(config, Config) else load_config(config, opts)
        self.device = choose_device(cfg.MODEL.DEVICE)
        self.task = load_task(cfg, cfg.MODEL.WEIGHTS if weights is None else weights)
        self.metadata = self.task.metadata
        behind = (
            cfg.TEST.REFINE if refine is None else replace(cfg.TEST.REFINE, WEIGHTS=str(refine))
        )
        self.refine = build_refiner(behind, self.device)

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> list[Result]:
        """One Result an image, in order, at each image's own size.

        Args:
            images: paths, uint8 RGB arrays (H, W, 3), or images of PIL. They go through the model
                in batches of TEST.BATCH_SIZE, so a long list needs no more memory than a short one.
        """
        images = _listed(images)
        step = max(1, self.cfg.TEST.BATCH_SIZE)
        results = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            found = self.results([self.sample(x, start + i) for i, x in enumerate(part)])
            if self.refine is not None:
                pixels = (pixels_of(x, start + i) for i, x in enumerate(part))
                found = [self.refined(r, x) for r, x in zip(found, pixels, strict=True)]
            results += found
        return results

    def refined(self, result: Result, pixels: np.ndarray) -> Result:
        """A result with the masks that the refiner makes of it; itself where there is none.

        Args:
            pixels: (H, W, 3) uint8 RGB, the image.
        """
        return result if self.refine is None else refined(result, pixels, self.refine)

    def outputs(self, images: ImageLike | Sequence[ImageLike]) -> Outputs:
        """The raw logits of all images as one padded batch."""
        images = _listed(images)
        if not images:
            raise DataError("outputs([]): a batch holds at least one image; give paths or arrays")
        return self._forward(Batch.collate([self.sample(x, i) for i, x in enumerate(images)]))

    def sample(self, image: ImageLike, number: int = 0) -> Sample:
        """An image, read and resized as the config's test settings say; safe to call in threads."""
        pixels = pixels_of(image, number)
        name = str(image) if isinstance(image, str | Path) else str(number)
        record = Record(name, (pixels.shape[0], pixels.shape[1]), (Frame(Path(name)),))
        return self.task.views.test(pixels, record)

    def results(self, samples: Sequence[Sample]) -> list[Result]:
        """Results of one batch of samples."""
        batch = Batch.collate(samples)
        with torch.inference_mode():
            return self.task.postprocess(self._forward(batch, aux=False), batch)

    def _forward(self, batch: Batch, aux: bool = True) -> Outputs:
        return self.task.infer(batch, self.device, aux)


def _listed(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One image is a list of one."""
    if isinstance(images, str | Path | np.ndarray | Image.Image):
        return [images]
    if isinstance(images, torch.Tensor) or not isinstance(images, Iterable):
        raise _refusal(images, 0)
    return list(images)


def pixels_of(image: object, number: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file, an array or an image of PIL; DataError for what is none."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise _refusal(image, number)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"image {number}: got {image.dtype} of shape {image.shape}; expected a uint8"
            " RGB array (H, W, 3) with pixels; BGR images of OpenCV need image[..., ::-1]"
        )
    return image


def _refusal(image: object, number: int) -> DataError:
    advice = "; a tensor (3, H, W) of 0..255 needs .permute(1, 2, 0).byte().cpu().numpy()"
    return DataError(
        f"image {number}: got {type(image).__name__}; expected a path, a uint8 RGB array"
        f" (H, W, 3) or an image of PIL{advice if isinstance(image, torch.Tensor) else ''}"
    )

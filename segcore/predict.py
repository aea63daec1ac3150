"""The three-line Python API: a config, weights, images -> results.

predictor = Predictor("configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml")
for result in predictor(["street.jpg", array]):
    print(result.panoptic.segments)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.build import build_task, catalogs, data_root
from segcore.config import Config, load_config
from segcore.data.catalog import dataset_metadata
from segcore.data.dataset import read_image
from segcore.engine.weights import load_weights, read_checkpoint
from segcore.errors import ConfigError, DataError
from segcore.structures import Batch, Frame, Metadata, Outputs, Record, Result, Sample

logger = logging.getLogger(__name__)

ImageLike = str | Path | np.ndarray


class Predictor:
    """A model with its weights, ready to look at images; in eval mode, on CUDA where there is one.

    Args:
        config: path of a YAML file, or a loaded Config.
        weights: checkpoint; None takes the config's MODEL.WEIGHTS, "" leaves the model random.
        opts: `KEY VALUE` pairs laid over the config, e.g. ["MODEL.DEVICE", "cpu"].
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path | None = None,
        opts: Sequence[str] = (),
    ) -> None:
        self.cfg = cfg = config if isinstance(config, Config) else load_config(config, opts)
        path = cfg.MODEL.WEIGHTS if weights is None else str(weights)
        checkpoint: dict[str, Any] = read_checkpoint(path) if path else {}
        self.metadata = _metadata(cfg, checkpoint)
        self.task = build_task(cfg, self.metadata)
        if path:
            load_weights(self.task.model, checkpoint, self.task.renames)
        else:
            logger.warning("no weights given: the model is random, and so are its results")
        self.device = _device(cfg.MODEL.DEVICE)
        self.task.model.to(self.device).eval()

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> list[Result]:
        """One Result an image, in order, at each image's own size.

        Args:
            images: paths, or uint8 RGB arrays (H, W, 3). They go through the model in batches of
                TEST.BATCH_SIZE, so a long list needs no more memory than a short one.
        """
        images = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
        step = max(1, self.cfg.TEST.BATCH_SIZE)
        results = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            results += self.results([self.sample(x, start + i) for i, x in enumerate(part)])
        return results

    def outputs(self, images: ImageLike | Sequence[ImageLike]) -> Outputs:
        """The raw logits of all images as one padded batch."""
        images = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
        return self._forward(Batch.collate([self.sample(x, i) for i, x in enumerate(images)]))

    def sample(self, image: ImageLike, number: int = 0) -> Sample:
        """An image, read and resized as the config's test settings say; safe to call in threads."""
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(
                    f"image {number}: got {image.dtype} of shape {image.shape}; expected a uint8"
                    " RGB array (H, W, 3); BGR images of OpenCV need image[..., ::-1]"
                )
            pixels, name = image, str(number)
        else:
            pixels, name = read_image(Path(image)), str(image)
        record = Record(name, (pixels.shape[0], pixels.shape[1]), (Frame(Path(name)),))
        return self.task.views.test(pixels, record)

    def results(self, samples: Sequence[Sample]) -> list[Result]:
        """Results of one batch of samples."""
        batch = Batch.collate(samples)
        with torch.inference_mode():
            return self.task.postprocess(self._forward(batch, aux=False), batch)

    def _forward(self, batch: Batch, aux: bool = True) -> Outputs:
        with torch.inference_mode():
            return self.task.model(batch.images.to(self.device), batch.sizes, aux=aux)


def _metadata(cfg: Config, checkpoint: dict[str, Any]) -> Metadata:
    """The classes: from the checkpoint that carries them, else from the catalogue."""
    if cfg.ENTITY.ENABLE:  # no file is needed to know that there is one
        return Metadata("entities", (), (), (), ()).as_entities()
    if "metadata" in checkpoint:
        return Metadata.from_dict(checkpoint["metadata"])
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN is empty and the checkpoint names no classes; name the data set that"
            " the model was trained on, e.g. DATASETS.TRAIN '[coco_2017_train_panoptic]'"
        )
    return dataset_metadata(names[0], data_root(), catalogs(cfg))


def _device(name: str) -> torch.device:
    if name in ("", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %s but there is no CUDA here: using the CPU", name)
        return torch.device("cpu")
    return torch.device(name)

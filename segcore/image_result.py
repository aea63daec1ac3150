"""What the Predictor says of an image: a Result that knows the image and its classes' names.

Legend of one-letter names: N segments, H W pixels.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore import masks
from segcore.errors import ConfigError
from segcore.evaluation.writers import coco_json
from segcore.given_image import ImageLike, pixels_of
from segcore.structures import Instances, Metadata, Result
from segcore.video.window_tracks import window_tracks
from segcore.visualize import draw

SURE = 0.5  # score of what is shown


@dataclass(slots=True, kw_only=True, repr=False)
class ImageResult(Result):
    """A Result with what it is of.

    Args:
        image: as it was given. A path is read again where pixels are needed; an array stays in
            memory as long as the result.
        number: of the image in the call that it was given in, from 0.
        metadata: names and numbers of the classes.
    """

    image: ImageLike
    number: int = 0
    metadata: Metadata

    @classmethod
    def of(cls, result: Result, image: ImageLike, number: int, metadata: Metadata) -> ImageResult:
        """A result, with its image."""
        content = {here.name: getattr(result, here.name) for here in fields(Result)}
        return cls(**content, image=image, number=number, metadata=metadata)

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, the image."""
        return pixels_of(self.image, self.number)

    def segments(self, threshold: float = 0.0) -> Instances:
        """What `plot` shows, as N masks: panoptic segments, else instances, else classes.

        Args:
            threshold: least score; a class of a semantic map has 1.
        """
        found = window_tracks(self)
        sure = found.scores >= threshold
        rles = [track[0] for track, on in zip(found.masks, sure.tolist(), strict=True) if on]
        boxes = found.scores.new_tensor(masks.boxes(rles)).reshape(-1, 4)
        return Instances(found.scores[sure], found.labels[sure], rles, boxes)

    def plot(self, *, threshold: float = SURE, alpha: float = 0.55) -> Image.Image:
        """The image under what was found, with names; `np.asarray` of it is (H, W, 3) uint8 RGB.

        Args:
            threshold: least score of an instance.
            alpha: strength of the colours, 0..1.
        """
        shown = self if self.tracks is None else Result(instances=self.segments())
        return Image.fromarray(
            draw(self.pixels, shown, self.metadata, threshold=threshold, alpha=alpha)
        )

    def to_coco(
        self, image_id: int | str | None = None, *, threshold: float = 0.0
    ) -> list[dict[str, Any]]:
        """`segments` as entries of COCO's results: ids, box x y w h, score, mask as RLE with text.

        Args:
            image_id: None: the file's name without its ending, a number where it is one; of what
                is no file its place in the call.
            threshold: least score.
        """
        if image_id is None:
            stem = Path(self.image).stem if isinstance(self.image, str | Path) else self.number
            image_id = int(stem) if str(stem).isdecimal() else stem
        return coco_json(Result(instances=self.segments(threshold)), image_id, self.metadata)

    def to_supervision(self, *, threshold: float = SURE) -> Any:
        """`segments` as `supervision.Detections`: boxes, masks (N, H, W), scores, class names.

        Where nothing is found all of them have length 0, masks too. ConfigError where the package
        supervision is missing.

        Args:
            threshold: least score.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ConfigError(
                "to_supervision needs the package supervision: pip install 'segcore[supervision]'"
                f" ({error})"
            ) from None
        found = self.segments(threshold)
        labels = found.labels.numpy()
        shapes = [masks.decode(rle) for rle in found.masks]  # of each (H, W)
        return Detections(
            xyxy=found.boxes.numpy(),
            mask=np.stack(shapes) if shapes else np.zeros((0, *self.pixels.shape[:2]), bool),
            confidence=found.scores.numpy(),
            class_id=labels,
            data={"class_name": np.array([self.metadata.classes[k] for k in labels], dtype=str)},
        )

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        content = io.BytesIO()
        self.plot().save(content, "PNG")
        return content.getvalue()

    def __repr__(self) -> str:
        """The image, and how many of each class."""
        labels = self.segments(SURE).labels.tolist()
        counts = Counter(self.metadata.classes[k] for k in labels)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        name = self.image if isinstance(self.image, str | Path) else f"image {self.number}"
        return f"<{name}: {found}>"

"""The three-line Python API: a config, weights, images -> results.

predictor = Predictor("configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml")
for result in predictor(["street.jpg", array]):
    print(result.panoptic.segments)

for frame in predictor.video("street.mp4"):
    print(frame.index, frame.ids.tolist(), frame.labels.tolist())
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from segcore.build.refine import build_refiner
from segcore.build.task import load_for_inference
from segcore.config import Config, load_config
from segcore.data.frame_source import frame_source
from segcore.data.problem import Report, raise_it
from segcore.engine.device import choose_device
from segcore.errors import ConfigError, DataError
from segcore.given_image import ImageLike, listed, pixels_of
from segcore.image_result import ImageResult
from segcore.refined import refined
from segcore.structures import (
    Batch,
    Frame,
    Outputs,
    Record,
    Result,
    Sample,
    Tracks,
    VideoFrame,
)
from segcore.video.linker import Linker
from segcore.video.stream import OVERLAP, WINDOW, TrackedFrame, Tracking, whole_tracks
from segcore.video.window_tracks import window_tracks

VideoLike = str | Path | Iterable[ImageLike]  # a file, a folder, or frames


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
        self.task = load_for_inference(cfg, cfg.MODEL.WEIGHTS if weights is None else weights)
        self.metadata = self.task.metadata
        behind = (
            cfg.TEST.REFINE if refine is None else replace(cfg.TEST.REFINE, WEIGHTS=str(refine))
        )
        self.refine = build_refiner(behind, self.device, prepare=cfg.TEST.PREPARE)

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> list[ImageResult]:
        """One result an image, in order, at each image's own size.

        Args:
            images: paths, uint8 RGB arrays (H, W, 3), or images of PIL. They go through the model
                in batches of TEST.BATCH_SIZE, so a long list needs no more memory than a short one.
        """
        images = listed(images)
        step = max(1, self.cfg.TEST.BATCH_SIZE)
        results = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            found = self.results([self.sample(x, start + i) for i, x in enumerate(part)])
            if self.refine is not None:
                pixels = (pixels_of(x, start + i) for i, x in enumerate(part))
                found = [self.refined(r, x) for r, x in zip(found, pixels, strict=True)]
            results += [
                ImageResult.of(result, image, start + i, self.metadata)
                for i, (result, image) in enumerate(zip(found, part, strict=True))
            ]
        return results

    def refined(self, result: Result, pixels: np.ndarray) -> Result:
        """A result with the masks that the refiner makes of it; itself where there is none.

        Args:
            pixels: (H, W, 3) uint8 RGB, the image.
        """
        return result if self.refine is None else refined(result, pixels, self.refine)

    def outputs(self, images: ImageLike | Sequence[ImageLike]) -> Outputs:
        """The raw logits of all images as one padded batch."""
        images = listed(images)
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

    def clip(self, frames: VideoLike) -> Outputs:
        """The raw logits of a whole clip, T frames of one size, in one forward.

        ConfigError for a model for images.
        """
        if not self.task.clips:
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {self.cfg.MODEL.META_ARCHITECTURE} looks at images one by"
                " one, not at clips; video() and tracks() join what it says of each frame"
            )
        return self._forward(Batch.collate([self.clip_sample(self._all(frames))]))

    def tracks(self, frames: VideoLike) -> Tracks:
        """The published result of a whole clip: all its frames in one forward.

        A model for images looks at each frame alone, and its segments are joined into tracks.
        """
        if not self.task.clips:
            return whole_tracks(self.video(frames))
        (tracks,) = self.look(self._all(frames))
        return tracks

    def video(
        self,
        frames: VideoLike,
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        threshold: float = 0.0,
        problem: Report = raise_it,
    ) -> Iterator[TrackedFrame]:
        """What shows in each frame, in memory that does not grow; the first after a window.

        Windows of frames go through the model, and their tracks are joined by the frames that two
        of them share. With one window it is what `tracks` says. A model for images looks at each
        frame alone.

        Args:
            frames: a video file, a folder of images, or paths and arrays one after the other.
            window: frames in one forward, of a model for clips.
            overlap: frames that two windows share.
            threshold: score from which something begins a track.
            problem: hears of frames that are left out; by default the first raises DataError.
        """
        tracking = self.tracking(window=window, overlap=overlap, linker=Linker(threshold))
        source = frame_source(frames, pixels_of)
        return (frame for part in tracking(source.frames(problem)) for frame in part)

    def tracking(self, *, window: int, overlap: int, linker: Linker) -> Tracking:
        """How this model makes tracks of a stream; arguments as `video` and `Tracking` have them.

        Of a model for images TEST.BATCH_SIZE frames make a window.
        """
        clips = self.task.clips
        window = window if clips else max(1, self.cfg.TEST.BATCH_SIZE)
        return Tracking(self.look, clips, window, overlap, linker)

    def look(self, frames: Sequence[VideoFrame]) -> list[Tracks]:
        """The tracks of the clip, or for a model for images those of each frame."""
        if self.task.clips:
            (result,) = self.results([self.clip_sample(frames)])
            tracks = window_tracks(result)
            return [tracks if self.refine is None else self._refined_tracks(tracks, frames)]
        results = self.results([self.sample(frame.image, frame.index) for frame in frames])
        pairs = zip(results, frames, strict=True)
        return [window_tracks(self.refined(result, frame.image)) for result, frame in pairs]

    def _refined_tracks(self, tracks: Tracks, frames: Sequence[VideoFrame]) -> Tracks:
        assert self.refine is not None
        by_frame = zip(frames, zip(*tracks.masks, strict=True), strict=True)
        better = [self.refine(frame.image, rles) for frame, rles in by_frame]
        return replace(tracks, masks=[list(track) for track in zip(*better, strict=True)])

    def clip_sample(self, frames: Sequence[VideoFrame]) -> Sample:
        """Frames as the views of one sample, each resized as the config's test settings say."""
        H, W = frames[0].image.shape[:2]
        record = Record(frames[0].name, (H, W), tuple(Frame(Path(f.name)) for f in frames))
        views = [self.task.views.test(frame.image, record) for frame in frames]
        pixels, sizes, boxes = zip(*((v.views, v.sizes, v.boxes) for v in views), strict=True)
        return Sample(torch.cat(pixels), torch.cat(sizes), torch.cat(boxes), None, record)

    def _all(self, frames: VideoLike) -> list[VideoFrame]:
        listed = list(frame_source(frames, pixels_of).frames(raise_it))
        if not listed:
            raise DataError("a clip without frames; give paths, arrays, a folder or a video file")
        return listed

    def _forward(self, batch: Batch, aux: bool = True) -> Outputs:
        return self.task.infer(batch, self.device, aux)

"""AP of tracks, by how many frames the model sees at once.

    python tools/compare_windows.py small/video_lite0.yaml --weights output/model_final.pth \
        --data val/instances.json@val/JPEGImages --windows 0 8 4 1

A window of 0 is the whole video in one forward, as published; one of 1 is each frame alone. Half of
a window's frames belong to the one before too, and their tracks are joined by the linker.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from segcore.build.evaluators import build_evaluators
from segcore.data.catalog import Catalog
from segcore.evaluation.writers import write_json
from segcore.predict import Predictor
from segcore.structures import Result, Tracks
from segcore.video.stream import whole_tracks

METRICS = ("AP", "AP50", "AP75", "AR1", "AR10", "boundary AP")


def tracks_of(predictor: Predictor, files: list[Path], window: int, most: int) -> Tracks:
    """The best tracks of a video's frames."""
    if not window:
        return predictor.tracks(files)
    tracks = whole_tracks(predictor.video(files, window=window, overlap=window // 2))
    return Tracks(tracks.scores[:most], tracks.labels[:most], tracks.masks[:most])


def measure(predictor: Predictor, data: str, window: int) -> dict[str, float]:
    """The metrics of a data set."""
    catalog, most = Catalog(Path()), int(getattr(predictor.cfg.TEST, "TRACKS_PER_VIDEO", 10))
    (evaluator,) = build_evaluators(predictor.task, catalog, catalog.metadata(data))
    for record in track(catalog.records(data), f"window {window or 'of all frames'}"):
        files = [frame.file for frame in record.frames]
        evaluator.update(Result(tracks=tracks_of(predictor, files, window, most)), record)
    return evaluator.compute()


def main(config: str, weights: str, data: str, windows: list[int], output: Path | None) -> None:
    """Measure, print and write."""
    predictor = Predictor(config, weights)
    table, rows = Table("frames at once", *METRICS), {}
    for window in windows:
        metrics = rows[window] = measure(predictor, data, window)
        table.add_row(str(window or "all"), *(f"{metrics[name]:.1f}" for name in METRICS))
    Console(width=100).print(table)
    if output:
        write_json(output, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True, metavar="JSON@FRAMES")
    parser.add_argument("--windows", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, help="a new .json file")
    args = parser.parse_args()
    main(args.config, args.weights, args.data, args.windows, args.output)

"""Pages of HTML that need nothing beside them: their frame, pictures, tables.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from segcore.data.transforms import shortest_edge

EDGE = 360  # pixels of a picture's longer side

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em;
  color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-bottom: 1px solid #ddd;
  overflow-wrap: anywhere }
td.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th { overflow-wrap: normal } h1 { overflow-wrap: anywhere }
.error { color: #b00020; font-weight: 600 } .warning { color: #9a5b00; font-weight: 600 }
.note { color: #456 }
.pictures { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 360px }
figure.wide { width: 732px } figure img { width: 100%; border-radius: 3px }
figcaption { font-size: 12px; color: #555; overflow-wrap: anywhere }
.bar { background: #4a7ebb; height: .8em; display: inline-block; min-width: 1px }
.advice { color: #444; font-style: italic } h3 { margin-bottom: .2em }
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page, or why there is none."""

    caption: str
    source: str = ""  # a data URI
    wide: bool = False  # two images beside each other


def html_page(title: str, heading: str, body: str, *, style: str = "") -> str:
    """A whole page.

    Args:
        body: HTML, with texts from outside escaped.
        style: more of it.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>\n"
        f"<h1>{escape(heading)}</h1>\n{body}\n</body></html>\n"
    )


def figures(pictures: Iterable[Picture], kind: str = "") -> Iterator[str]:
    """Pictures with their captions, as many beside each other as fit.

    Args:
        kind: of all, for the style.
    """
    yield '<div class="pictures">'
    for picture in pictures:
        image = f'<img alt="" src="{escape(picture.source)}">' if picture.source else ""
        shown = kind or ("wide" if picture.wide else "")
        attribute = f' class="{shown}"' if shown else ""
        caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
        yield f"<figure{attribute}>{image}{caption}</figure>"
    yield "</div>"


def data_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 as a JPEG inside a page."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def small(picture: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """With a longer side of `edge`, no matter how large or small it was."""
    h, w = picture.shape[:2]
    size = small_size(h, w, edge)
    rule = Image.Resampling.NEAREST if size[0] > h else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), rule))


def small_size(height: int, width: int, edge: int = EDGE) -> tuple[int, int]:
    """Height and width once the longer side is `edge`."""
    return shortest_edge(height, width, edge=edge, longest=edge)

"""Fonts that have the signs of a label, whatever language classes are named in."""

from __future__ import annotations

import logging
import os
import re
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from segcore.user_path import user_path

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
FOLDERS = (  # where systems keep theirs
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts",
    "/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
ENDINGS = (".ttf", ".ttc", ".otf", ".otc")
LIKELY = re.compile(
    r"cjk|noto ?sans|wqy|fallback|unifont|yahei|pingfang|unicode|gothic|dejavusans\."
)
SIZE = 16  # at which signs are compared
NO_SIGN = "\U0010ffff"  # which no font has: what is drawn in its place


def label_font(text: str, size: int) -> tuple[Font, str]:
    """A font with all signs of a text, and the text; signs that no font here has as \\u53e3.

    Args:
        size: pixels.
    """
    default = ImageFont.load_default(size=size)
    if not _lacking(ImageFont.load_default(size=SIZE), text):
        return default, text
    file, nowhere = _file_with("".join(sorted(set(text))))
    font = ImageFont.truetype(file, size) if file else default
    for sign in nowhere:
        text = text.replace(sign, sign.encode("ascii", "backslashreplace").decode())
    return font, text


@cache  # so that the search, and a warning, comes once a text
def _file_with(signs: str) -> tuple[str, str]:
    """The font file that has most of the signs, and those that it lacks; "": Pillow's own."""
    best, lacking = "", _lacking(ImageFont.load_default(size=SIZE), signs)
    for file in _font_files():
        try:
            missing = _lacking(ImageFont.truetype(file, SIZE), signs)
        except OSError:  # no font after all
            continue
        if len(missing) < len(lacking):
            best, lacking = file, missing
        if not lacking:
            break
    if lacking:
        logger.warning(
            "no font here has %s: drawn as \\u...; install one (on Debian: fonts-noto-cjk), or name"
            " its file in SEGCORE_FONT", lacking,
        )  # fmt: skip
    return best, lacking


@cache
def _font_files() -> list[str]:
    """All of the system, the likely ones first; before them the one that SEGCORE_FONT names."""
    found = [
        os.path.join(folder, name)
        for start in FOLDERS
        for folder, _, names in os.walk(user_path(start))
        for name in sorted(names)
        if name.lower().endswith(ENDINGS)
    ]
    named = [str(user_path(file))] if (file := os.environ.get("SEGCORE_FONT")) else []
    return named + sorted(found, key=lambda file: not LIKELY.search(os.path.basename(file).lower()))


def _lacking(font: Font, text: str) -> str:
    """Its signs that look like one that no font has."""
    nothing = _shape(font, NO_SIGN)
    return "".join(
        sign for sign in dict.fromkeys(text) if not sign.isascii() and _shape(font, sign) == nothing
    )


def _shape(font: Font, sign: str) -> bytes:
    picture = Image.new("L", (2 * SIZE, 2 * SIZE))
    ImageDraw.Draw(picture).text((SIZE // 2, 0), sign, fill=255, font=font)
    return picture.tobytes()

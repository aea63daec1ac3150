"""Label Studio's run lengths of brush strokes: bytes of an RGBA picture, packed bit by bit.

32 bits number of words, 5 bits length of a word less 1, four times 4 bits length of a length less
1; then blocks: 1 bit whether one word is repeated, 2 bits which of the four lengths, the number of
words less 1, and the word or the words.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import numpy as np

from segcore.structures import Size

CHANNELS = 4  # red, green, blue, alpha; alpha is the mask
LENGTHS = (3, 4, 8, 16)  # bits


def decode(values: list[int], size: Size) -> np.ndarray:
    """(H, W) bool.

    Args:
        values: bytes, as the JSON has them.

    Raises:
        ValueError: says what is wrong with them.
    """
    try:
        packed = np.array(values, np.uint8) if values else np.zeros(0, np.uint8)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("values that are no bytes, 0 to 255") from None
    if packed.ndim != 1 or any(type(value) is not int for value in values):
        raise ValueError("values that are no bytes, 0 to 255")
    bits = _Bits(packed)
    count, word = bits.number(32), bits.number(5) + 1
    if word != 8:
        raise ValueError(f"words of {word} bits; expected 8")
    if count != size[0] * size[1] * CHANNELS:
        raise ValueError(
            f"{count} values; expected height x width x {CHANNELS} = {size[0] * size[1] * CHANNELS}"
        )
    lengths = [bits.number(4) + 1 for _ in range(4)]
    out, here = np.empty(count, np.uint8), 0
    while here < count:
        repeated = bits.number(1)
        end = here + 1 + bits.number(lengths[bits.number(2)])
        if end > count:
            raise ValueError("more values than its image has")
        out[here:end] = bits.number(8) if repeated else bits.bytes(end - here)
        here = end
    return out.reshape(*size, CHANNELS)[..., CHANNELS - 1] > 0


class _Bits:
    """Numbers one after another, the highest bit first."""

    def __init__(self, packed: np.ndarray) -> None:
        self._bits = np.unpackbits(packed)
        self._text = (self._bits + ord("0")).tobytes().decode("ascii")
        self._here = 0

    def number(self, length: int) -> int:
        return int(self._text[self._step(length) : self._here], 2)

    def bytes(self, count: int) -> np.ndarray:
        start = self._step(8 * count)
        return np.packbits(self._bits[start : self._here])

    def _step(self, length: int) -> int:
        start, self._here = self._here, self._here + length
        if self._here > self._bits.size:
            raise ValueError("run lengths that end too early")
        return start


def encode(mask: np.ndarray) -> list[int]:
    """(H, W) bool -> bytes, as the JSON has them; runs alone."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    text = [f"{flat.size * CHANNELS:032b}", "00111", *(f"{bits - 1:04b}" for bits in LENGTHS)]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        word = "11111111" if value else "00000000"
        while length:
            count = min(length, 1 << LENGTHS[-1])
            which = next(i for i, bits in enumerate(LENGTHS) if count <= 1 << bits)
            text.append(f"1{which:02b}{count - 1:0{LENGTHS[which]}b}{word}")
            length -= count
    bits = np.frombuffer("".join(text).encode("ascii"), np.uint8) - ord("0")
    return np.packbits(bits).tolist()

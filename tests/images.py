"""Read the small PNG files of the test data: 8 bits per channel, not interlaced, without any imaging library."""

from __future__ import annotations

import struct
import zlib

import numpy as np

CHANNELS = {0: 1, 2: 3, 6: 4}


def read_png(data: bytes) -> np.ndarray:
    """The pixels [height, width, channels], uint8.  Source: the PNG specification, sections 5 to 9."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, packed, header = 8, b"", b""
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        position += length + 12
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    assert depth == 8 and not interlaced
    channels = CHANNELS[colour]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    pixels = np.zeros((height, width * channels), np.int64)
    above = np.zeros(width * channels, np.int64)
    for number, row in enumerate(rows):
        method, raw = int(row[0]), row[1:].astype(np.int64)
        line = pixels[number]
        if method in (0, 2):
            line[:] = (raw + above * (method == 2)) % 256
        else:
            for place in range(len(raw)):
                left = line[place - channels] if place >= channels else 0
                corner = above[place - channels] if place >= channels else 0
                line[place] = (raw[place] + _predicted(method, left, above[place], corner)) % 256
        above = line
    return pixels.astype(np.uint8).reshape(height, width, channels)


def _predicted(method: int, left: int, up: int, corner: int) -> int:
    if method == 1:
        return left
    if method == 3:
        return (left + up) // 2
    estimate = left + up - corner
    return min((left, up, corner), key=lambda item: abs(estimate - item))

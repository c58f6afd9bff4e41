"""JPEG: what the picture needs of a file, and whether all of the picture is there.

Reads the segments between the compressed data, none of the data themselves. Only what a decoder
needs is kept: text, EXIF, profiles, previews and whatever follows the end marker can neither fail
nor take memory.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import pairwise

from coview.data.listing import Unusable
from coview.data.orientation import exif_orientation, xmp_orientation

_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
_START, _END, _SCAN, _APP0, _APP1, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _ARITHMETIC = {0xC2, 0xC6, 0xCA, 0xCE}, set(range(0xC9, 0xD0))
# In place of what the file has: its numbers of dots per inch may be anything.
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_COEFFICIENTS = 64
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_CUT, _NO_IMAGE = "truncated: it has no end marker", "not an image, or of an unknown format"


@dataclass(slots=True)
class Jpeg:
    """``content`` is the file without metadata, ``mode`` Pillow's word for its components.

    ``scan_ends`` are where its scans end, in bytes. ``is_complete``: the scans hold every
    coefficient of every component to the last bit, by their headers; whether the data of each scan
    are whole is for a decoder to find out. ``is_too_short``: the file cannot hold a picture of its
    size.
    """

    content: bytes
    width: int
    height: int
    mode: str
    orientation: int
    scan_ends: list[int]
    is_complete: bool
    is_too_short: bool

    def with_more_data(self, data: bytes) -> bytes:
        """The file with ``data`` at the end of every scan; a decoder of whole scans skips them."""
        starts = [0, *self.scan_ends]
        parts = [self.content[a:b] + data for a, b in pairwise(starts)]
        return b"".join((*parts, self.content[starts[-1] :]))


def read_jpeg(content: bytes) -> Jpeg:
    """The segments of a JPEG file. Raises Unusable where they end before the end marker."""
    reader = _Reader()
    position = 2
    while True:
        match = _MARKER.search(content, position)
        if match is None or (match.start() + 4 > len(content) and match[1] != b"\xd9"):
            raise Unusable(_CUT if reader.frame[1] else _NO_IMAGE)
        start, kind = match.start(), content[match.start() + 1]
        if kind == _END:
            return reader.finish()
        if kind == _START:  # a picture inside the picture: nothing that a decoder accepts
            raise Unusable("damaged: it begins anew before its end")
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        position = end
        if kind == _SCAN:
            match = _MARKER.search(content, end)
            if match is None:
                raise Unusable(_CUT)
            position = match.start()
        reader.add(kind, content[start:end], content[end:position])


class _Reader:
    def __init__(self) -> None:
        self.parts, self.length = [b"\xff\xd8"], 2
        self.frame: tuple[int, bytes] = (0, b"")
        self.scan_ends: list[int] = []
        self.missing: dict[int, list[int]] = {}
        self.orientation, self.from_xmp = 1, 1

    def add(self, kind: int, segment: bytes, data: bytes) -> None:
        if kind == _APP1:
            self._read_metadata(segment[4:])
        elif kind == _APP0 and segment[4:9] == b"JFIF\x00":
            self._keep(_JFIF)
        elif kind in _TABLES or (kind == _ADOBE and segment[4:9] == b"Adobe" and len(segment) > 15):
            self._keep(segment)
        elif kind in _FRAMES:
            self._read_frame(kind, segment)
            self._keep(segment)
        elif kind == _SCAN:
            self._read_scan(segment)
            self._keep(segment + data)
            self.scan_ends.append(self.length)

    def finish(self) -> Jpeg:
        kind, body = self.frame
        if not self.scan_ends:
            raise Unusable("truncated: it has no picture data")
        height, width = struct.unpack(">HH", body[1:5])
        # No block of 8 x 8 pixels takes less than a bit, but by arithmetic coding.
        fewest = 0 if kind in _ARITHMETIC else (height // 8) * (width // 8)
        return Jpeg(
            content=b"".join((*self.parts, b"\xff\xd9")),
            width=width,
            height=height,
            mode=_MODES[body[5]],
            orientation=self.orientation if self.orientation != 1 else self.from_xmp,
            scan_ends=self.scan_ends,
            is_complete=not any(any(bits) for bits in self.missing.values()),
            is_too_short=8 * self.length < fewest,
        )

    def _keep(self, part: bytes) -> None:
        self.parts.append(part)
        self.length += len(part)

    def _read_metadata(self, body: bytes) -> None:
        if body.startswith(_EXIF) and self.orientation == 1:
            self.orientation = exif_orientation(body)
        elif body.startswith(_XMP):
            self.from_xmp = xmp_orientation(body)

    def _read_frame(self, kind: int, segment: bytes) -> None:
        if self.frame[1]:
            raise Unusable("damaged: it has two frames")
        self.frame = kind, segment[4:]
        body = segment[4:]
        if len(body) < 9 or len(body) < 6 + 3 * body[5]:
            raise Unusable("damaged: its frame is cut")
        if body[0] != 8 or body[5] not in _MODES:
            raise Unusable(f"JPEG of {body[0]} bits in {body[5]} components is not supported")
        # Missing bits of each coefficient, of each component; all are missing until a scan comes.
        # A scan that is not progressive brings all of them.
        count = _COEFFICIENTS if kind in _PROGRESSIVE else 1
        self.missing = {body[6 + 3 * i]: [1] * count for i in range(body[5])}

    def _read_scan(self, segment: bytes) -> None:
        """Note which coefficients the scan brings, and to which bit."""
        body = segment[4:]
        if not body or len(body) < 4 + 2 * body[0] or not self.frame[1]:
            raise Unusable("damaged: a scan without its header")
        first, last, bits = body[1 + 2 * body[0] :][:3]
        if self.frame[0] not in _PROGRESSIVE:
            first = last = bits = 0
        for component in body[1 : 1 + 2 * body[0] : 2]:
            coefficients = self.missing.get(component, [])
            for number in range(first, min(last + 1, len(coefficients))):
                coefficients[number] = bits & 15

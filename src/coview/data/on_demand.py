"""Images that are decoded whenever they are needed, because their pixels fit nowhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, StorageError
from coview.core.images import pixel_hash
from coview.core.paths import open_regular
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import DecodeSpec
from coview.data.listing import Content, Listing, Rejected
from coview.data.pixels import DecodedPixels

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further try of an image that the file system refuses, as a network share may
for a moment."""


class OnDemand:
    """Decodes the images of a listing by their place among its usable ones.

    All of them have been decoded before, when the store was made, so that one that has changed is
    noticed. The pixels are those that a resident store would have. ``pauses``: seconds before each
    further try. Safe to call from several threads.
    """

    def __init__(
        self, listing: Listing, spec: DecodeSpec, decoded: DecodedPixels, *,
        pauses: Sequence[float] = PAUSES,
    ) -> None:  # fmt: skip
        self._listing, self._spec, self._decoded = listing, spec, decoded
        self._pauses = pauses

    def __call__(self, places: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
        """The pixels, uint8 [height * width, 4], of distinct ascending places.

        Raises DataError for an image that has changed, StorageError for one that cannot be read.
        """
        with strict_pillow():
            return [
                self._decode(place, content)
                for place, content in zip(places.tolist(), self._contents(places), strict=True)
            ]

    def _contents(self, places: npt.NDArray[np.int64]) -> list[Content]:
        encoded, offsets = self._decoded.encoded, self._decoded.offsets
        if encoded is None:
            rows = self._decoded.rows[places]
            return [content for content, _ in self._listing.contents(rows)]
        return [encoded[offsets[k] : offsets[k + 1]].tobytes() for k in places.tolist()]

    def _decode(self, place: int, content: Content) -> npt.NDArray[np.uint8]:
        image = decode_image(content, self._spec)
        for pause in self._pauses:
            if not (isinstance(image, Rejected) and image.may_pass):
                break
            time.sleep(pause)
            image = decode_image(content, self._spec)
        name = f"{self._listing.names[int(self._decoded.rows[place])]} in {self._listing.source}"
        if isinstance(image, Rejected) and image.may_pass:
            raise StorageError(
                f"{name} cannot be read any more: {image.reason}. Make it readable again."
            )
        height, width = int(self._decoded.heights[place]), int(self._decoded.widths[place])
        reason = ""
        if isinstance(image, Rejected):
            reason = image.reason
        elif (image.height, image.width) != (height, width):
            reason = "it has another size"
        elif pixel_hash(image.pixels) != self._decoded.content[place]:
            reason = "it shows another picture"
        if isinstance(image, Rejected) or reason:
            raise DataError(
                f"{name} has changed since the run opened it: {reason}. Bring it back as it was, "
                "or begin anew without it."
            )
        return np.frombuffer(image.pixels, np.uint8).reshape(-1, 4)


def encoded_bytes(content: Any) -> bytes:
    """The encoded image of a usable row of a source that is read in order."""
    if isinstance(content, Path):
        with open_regular(content) as stream:
            return stream.read()
    return bytes(content)


def encoded_size(content: Content) -> int:
    """The number of :func:`encoded_bytes`; 0 where it cannot be known."""
    if isinstance(content, Path):
        with contextlib.suppress(OSError):
            return content.stat().st_size
    return len(content) if isinstance(content, bytes) else 0

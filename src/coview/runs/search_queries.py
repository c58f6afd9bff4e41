"""The images that are searched for, decoded and embedded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.places import place_of
from coview.data.spec import DataSpec
from coview.data.stream import ImageStream
from coview.evaluation import Subject
from coview.evaluation.features import vectors_of_parts
from coview.options import SearchOptions
from coview.reports.pictures import shrink
from coview.runs.inputs import images_named

SIDE = 192
"""The longer side of a picture on the page, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queries:
    """Images that are searched for: names as the user gave them, vectors float32 [M, D].

    ``pictures``: small ones of the images, for a page alone.
    """

    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    vectors: npt.NDArray[np.float32]
    content: npt.NDArray[np.int64]
    pictures: tuple[npt.NDArray[np.uint8], ...]

    @classmethod
    def open(cls, words: Any, subject: Subject, options: SearchOptions, device: Any) -> Queries:
        """Decode and embed. Raises DataError for a query that cannot be read."""
        data = images_named(words)
        spec = DataSpec.of(
            data, size=subject.view.size, short_side=options.short_side, white=options.white,
            max_pixels=options.max_pixels,
        )  # fmt: skip
        stream = spec.stream(data)
        has_page = options.html is not None
        found: dict[int, tuple[Any, ...]] = {}
        batches: deque[npt.NDArray[np.int64]] = deque()

        def decoded() -> Iterator[ImageStore]:
            for rows, part in stream.parts(np.arange(len(stream))):
                _refuse_unusable(stream)
                batches.append(rows)
                yield part
            _refuse_unusable(stream)

        for part, values in vectors_of_parts(subject, decoded(), [options.layer], device=device):
            vectors = values[options.layer].numpy()
            for place, row in enumerate(batches.popleft().tolist()):
                picture = shrink(part.image(place), SIDE) if has_page else None
                found[row] = (vectors[place], int(part.content[place]), picture)
        order, names = _in_given_order(data, stream)
        return cls(
            names=tuple(names), paths=tuple(stream.path(row) for row in order),
            vectors=np.stack([found[row][0] for row in order]),
            content=np.array([found[row][1] for row in order], dtype=np.int64),
            pictures=tuple(found[row][2] for row in order) if has_page else (),
        )  # fmt: skip


def _refuse_unusable(stream: ImageStream) -> None:
    if stream.quarantine:
        name, reason = stream.quarantine[0]
        raise DataError(f"The query {name} cannot be read: {reason}.")


def _in_given_order(data: Any, stream: ImageStream) -> tuple[list[int], list[str]]:
    """The rows of the queries and their names, as the user gave them; those of a folder by name."""
    paths = {stream.path(row): row for row in range(len(stream))}
    given = data if isinstance(data, list) else [data]
    if all(isinstance(word, str | Path) for word in given):
        places = [place_of(word).path for word in given]
        if all(place in paths for place in places):
            return [paths[place] for place in places], [str(word) for word in given]
    return list(range(len(stream))), [stream.name(row) for row in range(len(stream))]

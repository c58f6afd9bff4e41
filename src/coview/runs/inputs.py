"""Images that a user names: one, several, or by lines of the standard input."""

from __future__ import annotations

import os
import sys
from typing import Any

from coview.core.errors import DataError, InvalidValue
from coview.data.sources import is_path

STDIN = "-"


def images_named(data: Any) -> Any:
    """``data`` with the paths of the standard input in place of "-", and one for a list of one.

    The paths stand one in a line, or are separated by NUL as `find -print0` writes them.

    >>> images_named(("photos",)), images_named(("a.jpg", "b.jpg"))
    ('photos', ['a.jpg', 'b.jpg'])
    """
    if not (isinstance(data, list | tuple) and data and all(map(is_path, data))):
        return paths_of_stdin() if is_path(data) and data == STDIN else data
    if STDIN in data:
        if len(data) > 1:
            raise InvalidValue("`-`, the standard input, stands alone; expected no further images.")
        return paths_of_stdin()
    return data[0] if len(data) == 1 else list(data)


def paths_of_stdin() -> list[str]:
    """The paths that come in on the standard input. Raises DataError where there are none."""
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError(
            "No paths come in: `-` reads them from the standard input, as in: "
            "find photos -name '*.jpg' | coview embed RUN -"
        )
    # As bytes, because a name of a file may be no text.
    text = os.fsdecode(sys.stdin.buffer.read())
    lines = text.split("\0") if "\0" in text else text.replace("\r\n", "\n").split("\n")
    paths = [line for line in lines if line]
    if not paths:
        raise DataError("The standard input is empty; expected the path of one image in a line.")
    return paths

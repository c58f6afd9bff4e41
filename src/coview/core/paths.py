"""Paths as users write them, and looks at the file system that tell "cannot look" from "absent"."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from coview.core.errors import InvalidValue

Words = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def local_path(words: Words) -> Path:
    """The path that a user means: "~" is the home folder, "file:///x" the path /x.

    A shell leaves "~" alone in ``--out=~/x``, in Python and in files. A relative path stays
    relative. Raises InvalidValue for an empty path, an address elsewhere, or a missing home folder.

    >>> local_path("file:///data/my%20photos").as_posix(), local_path(b"photos/").as_posix()
    ('/data/my photos', 'photos')
    """
    text = os.fsdecode(words)
    if not text or "\0" in text:
        raise InvalidValue(f"The path {text!r} is not one; expected the name of a file or folder.")
    if text.startswith("file:"):
        address = urlsplit(text)
        if address.netloc not in ("", "localhost"):
            raise InvalidValue(f"{text} is on another machine; expected a path on this one.")
        text = os.fsdecode(unquote_to_bytes(address.path))
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises without a home
    if expanded == text and (text == "~" or text.startswith(("~/", f"~{os.sep}"))):
        raise InvalidValue(f"{text} lies in the home folder, and this user has none.")
    return Path(expanded)


def absolute_path(words: Words) -> Path:
    """As :func:`local_path`, the same place from any working folder."""
    return local_path(words).absolute()


def utf8_text(path: Path) -> str | None:
    """``path`` as a table can hold it, with slashes; None where it is not UTF-8.

    >>> utf8_text(Path("photos/a.png")), utf8_text(Path(os.fsdecode(b"photos/\\xff.png")))
    ('photos/a.png', None)
    """
    text = path.as_posix()
    return text if text.encode("utf-8", "replace").decode() == text else None


def file_mode(path: Path) -> int | None:
    """The mode of what is there, links followed; None where nothing is.

    Raises OSError where that cannot be seen, as for a folder that may not be read or links that
    loop. Path.exists, is_file and is_dir take some of these for absence.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading. Raises OSError for anything else: a pipe would never end."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(None, "not a regular file", str(path))

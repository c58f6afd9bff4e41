"""Streams to a person: what is printed never decides what becomes of a run.

A log may lie on a full disk, the reader may go away (``| head``), the terminal may close, and a
terminal of Windows or Korea lacks characters. A :class:`SafeStream` writes what can be written and
remembers the error of the rest.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class SafeStream(io.TextIOBase):
    """The text stream ``stream`` (None: nobody listens), whose errors are remembered, not raised.

    A character that its encoding lacks is spelled out, as ``\\\\xe9``. ``error`` is the last
    one, None where everything was written.

    >>> terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    >>> print("caf\\xe9", file=SafeStream(terminal), flush=True)
    >>> terminal.buffer.getvalue()
    b'caf\\\\xe9\\n'
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: Exception | None = None

    @classmethod
    def over(cls, stream: TextIO | None) -> SafeStream:
        return stream if isinstance(stream, SafeStream) else cls(stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with self._remember():
            if self.stream is not None:
                self.stream.write(encodable(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._remember():
            if self.stream is not None:
                self.stream.flush()

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):  # it is closed
            return False

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    @contextlib.contextmanager
    def _remember(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.error = error

    @property
    def is_lost(self) -> bool:
        """Whether lines are lost that somebody wants: not those of a reader who has gone."""
        return self.error is not None and not isinstance(self.error, BrokenPipeError)

    def abandon(self) -> None:
        """After an error, send the rest of the buffer nowhere: Python's exit must not fail."""
        if self.error is None:
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


def encodable(text: str, encoding: str) -> str:
    """``text`` with the characters that ``encoding`` lacks spelled out.

    >>> encodable("5 ± 1", "ascii"), encodable("5 ± 1", "utf-8")
    ('5 \\\\xb1 1', '5 ± 1')
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextlib.contextmanager
def safe_streams() -> Iterator[tuple[SafeStream, SafeStream]]:
    """Standard output and standard error as safe streams; neither is a closed descriptor."""
    for number in range(3):  # else the next file that is opened becomes the standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = SafeStream.over(sys.stdout), SafeStream.over(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            stream.flush()
            stream.abandon()

"""Text for a person: counts of things, durations, sizes of files and memory, names of files."""

from __future__ import annotations

import unicodedata

from coview.core.errors import InvalidValue


def plural(count: float, singular: str, many: str = "") -> str:
    """A count and its noun; ``many`` is the plural where it is not ``singular`` + "s".

    >>> plural(1, "file"), plural(1200, "file"), plural(2, "class", "classes")
    ('1 file', '1,200 files', '2 classes')
    """
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {singular if count == 1 else many or singular + 's'}"


def byte_size(count: float) -> str:
    """A number of bytes in MiB or GiB.

    >>> byte_size(3 << 20), byte_size(5 << 29)
    ('3 MiB', '2.5 GiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def parse_bytes(text: str) -> int:
    """'500MB', '20GB' or '1.5TB' in bytes; '0' is nothing. Raises InvalidValue for anything else.

    >>> parse_bytes("20GB")
    20000000000
    """
    units = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
    word = text.strip().upper()
    try:
        count = 0.0 if word == "0" else float(word[:-2]) * units[word[-2:]]
    except (ValueError, KeyError):
        count = -1.0
    if not 0 <= count < float("inf"):
        raise InvalidValue(f"{text!r} is not a size: write for example 500MB, 20GB or 0.")
    return int(count)


def duration(seconds: float, digits: int = 0) -> str:
    """A duration in its largest unit, with at most so many ``digits`` behind the point.

    >>> duration(45), duration(720), duration(12600), duration(1752, 1)
    ('45 s', '12 min', '3.5 h', '29.2 min')
    >>> duration(400_000)
    '111 h'
    """
    if seconds < 90:
        return f"{round(seconds, digits):g} s"
    if seconds < 5400:
        return f"{round(seconds / 60, digits):g} min"
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 100 else f"{round(hours, max(1, digits)):.1f} h"


def whole_numbers(name: str, text: str | None) -> tuple[int, ...]:
    """The numbers in the option ``name``, as "10,50"; () for None. Raises InvalidValue.

    >>> whole_numbers("clusters", "10, 50")
    (10, 50)
    """
    words = [] if text is None else str(text).split(",")
    if any(not word.strip().isdecimal() or int(word) < 1 for word in words):
        raise InvalidValue(
            f"`{name}` is {text!r}; expected whole numbers from 1, separated by commas, as 10,50."
        )
    return tuple(int(word) for word in words)


def parse_duration(text: str) -> float:
    """'90s', '30m', '2h' or '1d' in seconds. Raises InvalidValue for anything else.

    >>> parse_duration("30m")
    1800.0
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        seconds = float(text[:-1]) * units[text[-1:].lower()]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidValue(f"{text!r} is not a duration: write for example 90s, 30m or 2h.")
    return seconds


# Of a right-to-left script: they change the order of what follows them on the line.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """``text`` without control characters: a file's name cannot steer the terminal.

    They are spelled out, but for new lines and tabs; bytes that are no text too.

    >>> print(printable("a\\x1b[2J, caf\\udce9, \\u202egnp.exe"))
    a\\x1b[2J, caf\\xe9, \\u202egnp.exe
    """
    if text.isprintable():
        return text
    return "".join(_spelled(letter) for letter in text)


def _spelled(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte of a name that is no text (surrogateescape)
        return f"\\x{ord(letter) - 0xDC00:02x}"
    is_control = unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}
    if letter not in "\n\t" and (is_control or letter in _DIRECTIONS):
        return ascii(letter)[1:-1]
    return letter

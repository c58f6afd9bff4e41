"""Tags and labels that a user gives to images, in a CSV or Parquet file that is always whole.

The columns are id, name, path, label and tags. The file is a table of paths, which every command
takes for its data: ``coview finetune RUN tags.csv``. A path is relative to the folder of the file
where the image lies below it. Tags are separated by semicolons.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue
from coview.core.files import read_content, write_bytes
from coview.core.paths import utf8_text

COLUMNS = ("id", "name", "path", "label", "tags")
ENDINGS = (".csv", ".parquet")
SEPARATOR = ";"
MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Annotation:
    """The label ("" for none) and the tags of one image.

    Raises InvalidValue for a tag or a label with a semicolon, a control character, or more than 200
    characters.

    >>> Annotation("cat", (" nice", "blurred", "nice")).tags
    ('blurred', 'nice')
    """

    label: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        words = sorted({tag.strip() for tag in self.tags} - {""})
        object.__setattr__(self, "label", self.label.strip())
        object.__setattr__(self, "tags", tuple(words))
        for word in (self.label, *words):
            if SEPARATOR in word or len(word) > MAX_LENGTH or not word.isprintable():
                raise InvalidValue(
                    f"The label or tag {word[:40]!r} cannot be written; expected at most "
                    f"{MAX_LENGTH} characters without a semicolon and without line breaks."
                )

    def __bool__(self) -> bool:
        return bool(self.label or self.tags)


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed of the annotation of one image: a label of None keeps its label, "" is none.

    Raises InvalidValue for the words that :class:`Annotation` refuses.

    >>> Change(add=("nice",), remove=("blurred",)).of(Annotation("cat", ("blurred", "night")))
    Annotation(label='cat', tags=('nice', 'night'))
    """

    label: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = Annotation(self.label or "", self.add)
        object.__setattr__(self, "label", None if self.label is None else given.label)
        object.__setattr__(self, "add", given.tags)
        object.__setattr__(self, "remove", tuple(tag.strip() for tag in self.remove))

    def of(self, before: Annotation) -> Annotation:
        """What it makes of ``before``."""
        tags = {*before.tags, *self.add}.difference(self.remove)
        return Annotation(before.label if self.label is None else self.label, tuple(tags))


class Annotations:
    """The annotations of N images and their file, which every change replaces at once.

    ``names`` and ``ids`` are those of the images, ``paths`` their files or None. What the file says
    of other images stays in it, also of images of the same names in another folder. Safe for
    several threads; a file that another program has changed is read again before it is replaced.
    Raises DataError where the file is another table.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tags.csv"
    >>> images = dict(ids=np.array([7, 8]), names=["a.png", "b.png"], paths=[None, None])
    >>> Annotations(path, **images).update({1: Change("cat", add=("nice",))})
    {1: Annotation(label='', tags=())}
    >>> Annotations(path, **images).by_row
    {1: Annotation(label='cat', tags=('nice',))}
    """

    def __init__(
        self, path: Path, *, ids: npt.NDArray[np.int64], names: Sequence[str],
        paths: Sequence[Path | None],
    ) -> None:  # fmt: skip
        self.path = path
        self._ids, self._names, self._paths = ids, names, paths
        self._rows = {name: row for row, name in enumerate(names)}
        self._others: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self.by_row: dict[int, Annotation] = {}
        self._read()

    def update(self, changes: Mapping[int, Change]) -> dict[int, Annotation]:
        """Change the annotations of rows and write the file; returns those that they had.

        Raises InvalidValue for a row that is not there, StorageError where the file cannot be
        written; then nothing has changed.
        """
        for row in changes:
            if not 0 <= row < len(self._names):
                raise InvalidValue(
                    f"There is no image {row}; expected 0 to {len(self._names) - 1}."
                )
        with self._lock:
            if self._stamp != _stamp(self.path):
                self._read()
            before = {row: self.by_row.get(row, Annotation()) for row in changes}
            after = {row: change.of(before[row]) for row, change in changes.items()}
            merged = {row: value for row, value in {**self.by_row, **after}.items() if value}
            table = [self._line(row, merged[row]) for row in sorted(merged)] + self._others
            encode = _to_parquet if self.path.suffix.lower() == ".parquet" else _to_csv
            write_bytes(self.path, encode(table))
            self.by_row, self._stamp = merged, _stamp(self.path)
        return before

    def _line(self, row: int, value: Annotation) -> dict[str, str]:
        return {
            "id": str(self._ids[row]), "name": self._names[row],
            "path": path_text(self._paths[row], self.path.parent), "label": value.label,
            "tags": SEPARATOR.join(value.tags),
        }  # fmt: skip

    def _read(self) -> None:
        stamp, content = _stamp(self.path), read_content(self.path)
        decode = _from_parquet if self.path.suffix.lower() == ".parquet" else _from_csv
        by_row: dict[int, Annotation] = {}
        others: list[dict[str, str]] = []
        for line in [] if content is None else decode(content, self.path):
            row = self._rows.get(line.get("name", ""))
            if row is None or self._is_elsewhere(line.get("path", ""), self._paths[row]):
                others.append(line)
                continue
            tags = tuple(line.get("tags", "").split(SEPARATOR))
            try:
                by_row[row] = Annotation(line.get("label", ""), tags)
            except InvalidValue as error:
                raise DataError(f"{self.path}, {self._names[row]}: {error}") from error
        # Only now: a file that cannot be read is read again, and never replaced, at each change.
        self.by_row, self._others, self._stamp = by_row, others, stamp

    def _is_elsewhere(self, text: str, own: Path | None) -> bool:
        """Whether a line is of an image of the same name in another folder. One whose path leads
        nowhere is of an image that was moved, or of another machine."""
        place = self.path.parent / text
        return bool(text) and place != own and place.exists() and not _is_same(place, own)


def path_text(path: Path | None, folder: Path) -> str:
    """``path`` as a table in ``folder`` names it: relative where it lies below, else absolute.

    "" where there is no file, or its name is not UTF-8.

    >>> path_text(Path("/data/photos/a.png"), Path("/data"))
    'photos/a.png'
    """
    if path is None:
        return ""
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return utf8_text(shown) or ""


def _is_same(one: Path, two: Path | None) -> bool:
    return two is not None and two.exists() and one.samefile(two)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _to_csv(lines: Iterable[Mapping[str, str]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue().encode("utf-8", "backslashreplace")


def _to_parquet(lines: Sequence[Mapping[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(name: str) -> list[str]:
        texts = [line.get(name, "") for line in lines]
        return [text.encode("utf-8", "backslashreplace").decode() for text in texts]

    columns: dict[str, Any] = {name: pa.array(column(name), pa.string()) for name in COLUMNS}
    columns["id"] = pa.array([int(line.get("id") or 0) for line in lines], pa.int64())
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _from_csv(content: bytes, path: Path) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        lines = [{k: v or "" for k, v in line.items() if k} for line in reader]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{path} is not a readable table ({error}).") from error
    _check_columns(reader.fieldnames or (), path)
    return lines


def _from_parquet(content: bytes, path: Path) -> list[dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a readable table ({error}).") from error
    _check_columns(table.column_names, path)
    return [{k: "" if v is None else str(v) for k, v in line.items()} for line in table.to_pylist()]


def _check_columns(columns: Iterable[str], path: Path) -> None:
    """Raise DataError for a table that a user made for something else: it is not replaced."""
    columns = set(columns)
    if "name" not in columns or not columns <= set(COLUMNS):
        raise DataError(
            f"{path} has the columns {', '.join(sorted(columns)) or 'none'}; expected a table of "
            f"tags ({', '.join(COLUMNS)}). Give another file by `tags`."
        )

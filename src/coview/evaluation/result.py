"""What a protocol measured of one subject, and the files that hold it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from coview.core.errors import DamagedFile, InvalidValue
from coview.core.files import entries, write_json
from coview.core.run_folder import read_object

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure of one subject.

    ``value`` and its 95 % ``interval`` (low, high) are in the unit of ``metric``; "accuracy" is a
    share in [0, 1]. ``setting`` holds what the protocol varied, ``card`` how it measured.
    """

    protocol: str
    subject: str
    layer: str
    metric: str
    value: float
    interval: tuple[float, float]
    test_images: int
    setting: Mapping[str, Any]
    card: Mapping[str, Any] = field(repr=False)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of ``count`` independent trials, within [0, 1].

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    Raises InvalidValue unless 0 <= share <= 1 and count >= 1.

    >>> low, high = wilson_interval(0.8, 100)
    >>> round(low, 3), round(high, 3)
    (0.711, 0.867)
    """
    if not (0 <= share <= 1 and count >= 1):
        raise InvalidValue(
            f"`share` is {share} and `count` is {count}; expected a share in [0, 1] and at least 1."
        )
    weight = Z_95**2 / count
    center = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def write_results(
    folder: Path, results: Sequence[Result], *, data: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write ``folder``/<protocol>.json for every protocol among ``results``.

    A file holds "protocol", "card", "data" (what was trained and tested on), "created" and
    "results", and ``more``. It replaces an older one. Raises StorageError.

    >>> result = Result(protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
    ...     interval=(0.4, 0.6), test_images=100, setting={"k": 20}, card={})
    >>> write_results(Path("evaluation"), [result], data={"classes": 2})
    >>> [path.name for path in Path("evaluation").iterdir()]
    ['knn.json']
    """
    for protocol in dict.fromkeys(result.protocol for result in results):
        rows = [asdict(result) for result in results if result.protocol == protocol]
        cards = [row.pop("card") for row in rows]
        content = {
            "protocol": protocol, "card": cards[0], "data": dict(data),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "results": rows, **(more or {}),
        }  # fmt: skip
        write_json(folder / f"{protocol}.json", content)


def read_results(folder: Path) -> list[Result]:
    """The results in all JSON files of ``folder``, by file name; empty without a folder.

    Raises DamagedFile for a file that :func:`write_results` did not write.

    >>> result = Result(protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
    ...     interval=(0.4, 0.6), test_images=100, setting={"k": 20}, card={})
    >>> write_results(Path("evaluation"), [result], data={"classes": 2})
    >>> read_results(Path("evaluation")) == [result]
    True
    """
    results = []
    for path in (folder / name for name in entries(folder) if name.endswith(".json")):
        try:
            content = read_object(path, _Content) or {"results": [], "card": {}}
            for row in content["results"]:
                interval = tuple(row["interval"])
                results.append(Result(**{**row, "interval": interval}, card=content["card"]))
        except (DamagedFile, TypeError) as error:
            raise DamagedFile(f"{path} holds no results of an evaluation ({error}).") from error
    return results


class _Row(TypedDict):
    protocol: str
    subject: str
    layer: str
    metric: str
    value: float
    interval: list[float]
    test_images: int
    setting: dict[str, Any]


class _Content(TypedDict):
    results: list[_Row]
    card: dict[str, Any]

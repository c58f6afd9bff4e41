"""What a protocol measured of one subject, and the files that hold it."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np
import numpy.typing as npt

from coview.core.errors import DamagedFile
from coview.core.files import entries, write_json
from coview.core.metrics import headline_misfit
from coview.core.run_folder import read_object
from coview.evaluation.statistics import paired_permutation_test, with_holm


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Which of ``count`` test images a subject got right, in the order of the test part.

    ``bits`` are the packed bits as base64 text, which a JSON file holds: 10,000 images are 1.7 kB.

    >>> outcomes = Outcomes.of(np.array([True, False, True]))
    >>> outcomes, outcomes.array().tolist()
    (Outcomes(count=3, bits='oA=='), [True, False, True])
    """

    count: int
    bits: str

    @classmethod
    def of(cls, correct: npt.NDArray[np.bool_]) -> Self:
        packed = np.packbits(correct).tobytes()
        return cls(count=len(correct), bits=base64.b64encode(packed).decode())

    def array(self) -> npt.NDArray[np.bool_]:
        """bool [count]. Raises DamagedFile for text that holds another number of bits."""
        with suppress(binascii.Error, ValueError):
            packed = np.frombuffer(base64.b64decode(self.bits, validate=True), np.uint8)
            if len(packed) == (self.count + 7) // 8:
                return np.unpackbits(packed, count=self.count).astype(bool)
        raise DamagedFile(f"The outcomes of {self.count} images are damaged.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure of one subject.

    ``value`` and its 95 % ``interval`` (low, high) are in the unit of ``metric`` (see
    ``coview.core.metrics``); a share is in [0, 1]. ``setting`` holds what the protocol varied,
    ``card`` how it measured. ``per_class``: the value of each class by its name, where there is
    one. ``outcomes``: which test images were right, for a paired test of two subjects.
    ``confusion``: {"classes", "counts"}, which class is taken for which; in files only that of the
    result that represents a subject.
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
    per_class: Mapping[str, float] = field(default_factory=dict, repr=False)
    outcomes: Outcomes | None = field(default=None, repr=False)
    confusion: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def result_contents(
    results: Sequence[Result], *, data: Mapping[str, Any],
    descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """What :func:`write_results` writes: one JSON object for every protocol among ``results``.

    >>> result = Result(protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
    ...     interval=(0.4, 0.6), test_images=100, setting={"k": 20}, card={})
    >>> [content["protocol"] for content in result_contents([result], data={"classes": 2})]
    ['knn']
    """
    contents = []
    descriptions = descriptions or {}
    for protocol in dict.fromkeys(result.protocol for result in results):
        own = [result for result in results if result.protocol == protocol]
        description = descriptions.get(protocol, {})
        rows = _rows(own, description.get("headline", {}))
        for row in rows:
            if row["card"] == own[0].card:  # most protocols measure all alike: once in the file
                del row["card"]
        tests = paired_tests(own, description.get("headline", {}))
        contents.append({
            "protocol": protocol, **description, **({"paired": tests} if tests else {}),
            "card": dict(own[0].card), "data": dict(data),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "results": rows, **(more or {}),
        })  # fmt: skip
    return contents


def write_results(
    folder: Path, results: Sequence[Result], *, data: Mapping[str, Any],
    descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write ``folder``/<protocol>.json for every protocol among ``results``.

    A file holds "protocol", "card" (that of the first result; one with another card keeps its own),
    "data" (what was trained and tested on), "created" and "results", the description of its
    protocol where ``descriptions`` has one by its name, "paired" (:func:`paired_tests`) for several
    subjects, and ``more``. It replaces an older one.
    Raises StorageError.

    >>> result = Result(protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
    ...     interval=(0.4, 0.6), test_images=100, setting={"k": 20}, card={})
    >>> write_results(Path("evaluation"), [result], data={"classes": 2})
    >>> [path.name for path in Path("evaluation").iterdir()]
    ['knn.json']
    """
    for content in result_contents(results, data=data, descriptions=descriptions, more=more):
        write_json(folder / f"{content['protocol']}.json", content)


def headline_result(results: Sequence[Result], headline: Mapping[str, Any]) -> Result:
    """The result that represents a protocol: by its description, never the best.

    The layer of raw pixels stands in for one that they lack.

    >>> results = [Result(protocol="knn", subject="a", layer="h", metric="accuracy", value=value,
    ...     interval=(0, 1), test_images=9, setting={"k": k}, card={}) for k, value in
    ...     ((1, 0.9), (20, 0.5))]
    >>> headline_result(results, {"metric": "accuracy", "layer": "h", "k": 20}).value
    0.5
    """
    return min(
        results, key=lambda each: headline_misfit(headline, each.layer, each.metric, each.setting)
    )


def paired_tests(results: Sequence[Result], headline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline result of the first subject against that of each other one.

    A row holds "first", "second", "metric", "difference" (first less second), and where both say
    which images were right "p" (:func:`paired_permutation_test`) and "images"; of several tests
    "p_holm", which is corrected by Holm's procedure, and the number of "tests".

    >>> results = [Result(protocol="knn", subject=name, layer="h", metric="accuracy", value=value,
    ...     interval=(0, 1), test_images=4, setting={}, card={}, outcomes=Outcomes.of(right)) for
    ...     name, value, right in (("a", 1.0, np.ones(4, bool)), ("b", 0.0, np.zeros(4, bool)))]
    >>> [(test["first"], test["second"], test["p"]) for test in paired_tests(results, {})]
    [('a', 'b', 0.125)]
    """
    by_subject: dict[str, list[Result]] = {}
    for result in results:
        by_subject.setdefault(result.subject, []).append(result)
    first, *others = (headline_result(rows, headline) for rows in by_subject.values())
    tests = []
    for second in others:
        if second.metric != first.metric:
            continue
        row: dict[str, Any] = {
            "first": first.subject, "second": second.subject, "metric": first.metric,
            "difference": first.value - second.value,
        }  # fmt: skip
        one, other = first.outcomes, second.outcomes
        if one is not None and other is not None and one.count == other.count:
            row["p"] = paired_permutation_test(one.array(), other.array())
            row["images"] = one.count
        tests.append(row)
    return with_holm(tests)


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
                values = {"card": content["card"], **row, "interval": tuple(row["interval"])}
                if outcomes := row.get("outcomes"):
                    values["outcomes"] = Outcomes(**outcomes)
                results.append(Result(**values))
        except (DamagedFile, TypeError) as error:
            raise DamagedFile(f"{path} holds no results of an evaluation ({error}).") from error
    return results


def _rows(results: Sequence[Result], headline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each result as an object; of every subject the one that represents it keeps its confusion."""
    by_subject: dict[str, list[Result]] = {}
    for result in results:
        by_subject.setdefault(result.subject, []).append(result)
    main = [headline_result(own, headline) for own in by_subject.values()]
    rows = [_row(result) for result in results]
    for result, row in zip(results, rows, strict=True):
        if not any(result is each for each in main):
            row.pop("confusion", None)
    return rows


def _row(result: Result) -> dict[str, Any]:
    """The fields of a result but those that are empty."""
    empty = set() if result.per_class else {"per_class"}
    empty |= set() if result.outcomes else {"outcomes"}
    empty |= set() if result.confusion else {"confusion"}
    return {name: value for name, value in asdict(result).items() if name not in empty}


class _OutcomesRow(TypedDict):
    count: int
    bits: str


class _RequiredRow(TypedDict):
    protocol: str
    subject: str
    layer: str
    metric: str
    value: float
    interval: list[float]
    test_images: int
    setting: dict[str, Any]


class _Row(_RequiredRow, total=False):
    per_class: dict[str, float]
    card: dict[str, Any]
    outcomes: _OutcomesRow
    confusion: dict[str, Any]


class _Content(TypedDict):
    results: list[_Row]
    card: dict[str, Any]

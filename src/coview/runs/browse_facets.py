"""What is known of images: their classes, clusters, copies, predictions and verdicts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.browsing import Facet
from coview.core.files import entries, exists
from coview.core.images import ImageStore
from coview.core.paths import local_path
from coview.core.run_folder import RunFolder, read_object
from coview.embeddings.clusters import class_shares, largest_classes, majority
from coview.embeddings.duplicates import exact_groups
from coview.embeddings.table import EmbeddingTable
from coview.runs.duplicates import GROUP

Codes = npt.NDArray[np.int64]

RIGHT, WRONG, OUTLIER, COPY, CONTRADICTION = (
    "predicted right", "predicted wrong", "outlier", "has copies", "copies of another class",
)  # fmt: skip
OUTLIER_SHARE = 0.01
NAMED = 2
"""Classes of a mixed cluster: the column of filters is narrow."""


def known_facets(run: Path, store: ImageStore, table: EmbeddingTable) -> tuple[Facet, ...]:
    """The facets of the images of ``store``, whose rows are those of ``table``.

    The table may have the columns cluster or cluster_N, duplicate_group and outlier. A facet
    without any value is left out.
    """
    labels = np.full(len(store), -1) if store.labels is None else store.labels
    predicted, names = predictions_of(run, store)
    groups = groups_of_copies(store, table)
    facets = [
        Facet(name="class", title="Class", values=store.class_names, codes=labels),
        _predicted(predicted, names),
        *_all_clusters(table, labels, store.class_names),
        _copies(groups, "Copies" if GROUP in table.column_names else "Copies (equal pixels)"),
        verdicts(labels, _renumbered(predicted, names, store.class_names), groups,
                 table.column("outlier")),
    ]  # fmt: skip
    return tuple(facet for facet in facets if facet is not None and any(facet.counts))


def verdicts(labels: Codes, predicted: Codes | None, groups: Codes | None, outlier: Any) -> Facet:
    """What is to be said of each image, as marks; an image may have several.

    Predicted right or wrong: by a table of predictions, where the image has a label. Outlier: among
    the 1 % with the highest score. Copies: in a group of duplicates; of another class: a copy has
    another label. A mark of which nothing is known is left out. ``predicted`` and ``labels`` number
    the same classes; -1 is unknown. Groups are numbered from 1; 0 is none.

    >>> facet = verdicts(np.array([0, 1, 1]), np.array([0, 0, -1]), np.array([1, 1, 0]), None)
    >>> dict(zip(facet.values, facet.counts, strict=True))
    {'predicted right': 1, 'predicted wrong': 1, 'has copies': 2, 'copies of another class': 2}
    """
    marks: dict[str, npt.NDArray[np.bool_]] = {}
    if predicted is not None:
        judged = (labels >= 0) & (predicted >= 0)
        if judged.any():
            marks[RIGHT] = judged & (labels == predicted)
            marks[WRONG] = judged & (labels != predicted)
    if outlier is not None and len(labels):
        scores = np.nan_to_num(np.asarray(outlier, dtype=np.float64), nan=-np.inf)
        marks[OUTLIER] = scores >= np.quantile(scores, 1 - OUTLIER_SHARE)
    if groups is not None:
        marks[COPY] = groups > 0
        if (labels >= 0).any():
            marks[CONTRADICTION] = _contradicts(labels, groups)
    codes = np.zeros(len(labels), dtype=np.int64)
    for bit, mask in enumerate(marks.values()):
        codes |= mask.astype(np.int64) << bit
    return Facet(name="verdict", title="Verdict", codes=codes, marks=True, values=tuple(marks))


def groups_of_copies(store: ImageStore, table: EmbeddingTable) -> Codes:
    """The group of duplicates of each image, from 1; 0 where it has no copy.

    The column duplicate_group of the table where it has one, else the images of equal pixels.
    """
    column = table.column(GROUP)
    if column is not None:
        return np.nan_to_num(np.asarray(column, dtype=np.float64)).astype(np.int64)
    groups = np.zeros(len(store), dtype=np.int64)
    for number, rows in enumerate(exact_groups(store), 1):
        groups[rows] = number
    return groups


def predictions_of(run: Path, store: ImageStore) -> tuple[Codes | None, list[str]]:
    """The class that the run predicts of each image, -1 unknown, and the names of the classes.

    Read from the tables that ``coview predict`` has written into the run, and else from the test
    images of a fine-tuned run that are of this source; images are joined by name. (None, []) where
    there is neither.
    """
    found: dict[str, str] = {}
    folder = RunFolder(local_path(run)).predicted_path
    for file in entries(folder):
        if file.endswith(".parquet"):
            found |= _predicted_classes(folder / file, store)
    if not found:
        found = _tested_classes(run, store)
    names = sorted(set(found.values()))
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([number.get(found.get(name, ""), -1) for name in store.names], dtype=np.int64)
    return (codes, names) if (codes >= 0).any() else (None, [])


def _predicted_classes(path: Path, store: ImageStore) -> dict[str, str]:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        fingerprint = metadata.get(b"coview.fingerprint", b"").decode()
        source = json.loads(metadata.get(b"coview.source", b"null"))
        names, classes = table["name"].to_pylist(), table["class"].to_pylist()
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return {}
    same = fingerprint == store.fingerprint or source == store.source
    return dict(zip(names, classes, strict=True)) if same else {}


def _tested_classes(run: Path, store: ImageStore) -> dict[str, str]:
    folder = RunFolder(local_path(run))
    if not exists(folder.predictions_path):
        return {}
    value = read_object(folder.predictions_path) or {}
    data = (read_object(folder.description_path) or {}).get("data", {})
    # Test images of another folder may have the same names, and all in memory have.
    test = data.get("opened", {}).get("test")
    source = value.get("source", data.get("source") if test is None else None)
    if source != store.source or (test is not None and test.get("source") is None):
        return {}
    classes = data.get("class_names", [])
    pairs = zip(value.get("names", []), value.get("predicted", []), strict=False)
    return {str(name): str(classes[number]) for name, number in pairs if 0 <= number < len(classes)}


def _renumbered(codes: Codes | None, names: list[str], classes: tuple[str, ...]) -> Codes | None:
    """Codes of ``names`` as codes of ``classes``; of a name that is no class a number above."""
    if codes is None:
        return None
    number = {name: code for code, name in enumerate(classes)}
    table = np.array([number.get(name, len(classes) + i) for i, name in enumerate(names)] + [-1])
    return table[codes]


def _predicted(codes: Codes | None, names: list[str]) -> Facet | None:
    if codes is None:
        return None
    return Facet(name="predicted", title="Predicted class", values=tuple(names), codes=codes)


def _all_clusters(
    table: EmbeddingTable, labels: Codes, class_names: tuple[str, ...]
) -> list[Facet]:
    """A facet for each column of clusters, the one of the fewest clusters first."""
    found = {
        name: np.nan_to_num(np.asarray(table[name], dtype=np.float64), nan=-1).astype(np.int64)
        for name in table.column_names
        if name == "cluster" or re.fullmatch(r"cluster_\d+", name)
    }
    order = sorted(found, key=lambda name: int(found[name].max(initial=0)))
    return [_clusters(name, found[name], labels, class_names) for name in order]


def _clusters(name: str, clusters: Codes, labels: Codes, class_names: tuple[str, ...]) -> Facet:
    """Clusters by number, each with the class of most of its labeled images, or the largest ones
    of a mixed cluster with their shares."""
    count = int(clusters.max(initial=-1)) + 1
    values = []
    for number in range(count):
        classes = class_shares(labels[clusters == number])
        most = majority(classes)
        word = f" mixed: {largest_classes(classes, class_names, number=NAMED)}" if classes else ""
        if most is not None:
            word = f" {class_names[most] if most < len(class_names) else most}"
        values.append(f"{number}{word}")
    title = "Cluster" if name == "cluster" else f"{count} clusters"
    return Facet(name=name, title=title, values=tuple(values), codes=clusters)


def _copies(groups: Codes, title: str) -> Facet:
    """The groups of duplicates, the largest first."""
    numbers, codes, sizes = np.unique(groups[groups > 0], return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(numbers), dtype=np.int64)
    rank[order] = np.arange(len(numbers))
    places = np.full(len(groups), -1)
    places[groups > 0] = rank[codes]
    values = tuple(f"group {place + 1}" for place in range(len(numbers)))
    return Facet(name="copies", title=title, values=values, codes=places)


def _contradicts(labels: Codes, groups: Codes) -> npt.NDArray[np.bool_]:
    """Whether a copy of the image has another label."""
    lowest: dict[int, int] = {}
    highest: dict[int, int] = {}
    known = (groups > 0) & (labels >= 0)
    for group, label in zip(groups[known].tolist(), labels[known].tolist(), strict=True):
        lowest[group] = min(label, lowest.get(group, label))
        highest[group] = max(label, highest.get(group, label))
    mixed = [group for group in lowest if lowest[group] != highest[group]]
    return np.isin(groups, mixed) & known

"""What an evaluation may need beyond its test images: images from elsewhere, other data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coview import evaluation
from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.data.sources import is_path
from coview.data.spec import DataSpec, name_of, source_of
from coview.evaluation.transfer_sets import transfer_metric
from coview.runs.data import RunData, say_source

BETWEEN = "::"
"""Between the training and the test images of a text: paths and names hardly hold it."""


def open_outliers(value: Any, spec: DataSpec) -> dict[str, ImageStore]:
    """The images of each source by its name, without labels, decoded as ``spec`` says.

    ``value``: one source, a list of them, or a mapping from names to them.

    >>> list(open_outliers("scenes", DataSpec.of("scenes", limit=20, short_side=8)))
    ['scenes']
    """
    stores = {}
    for name, data in _by_name(value).items():
        plain = replace(
            spec, source=source_of(data), labels_from="none", needs_labels=False, for_test=True,
            split=None, label_column=None, image_column=None,
        )  # fmt: skip
        stores[name] = plain.open(data)
        say_source(stores[name])
    return stores


def open_transfer(
    value: Any, spec: DataSpec, *, seed: int = 0
) -> dict[str, tuple[ImageStore, ImageStore]]:
    """(train, test) of each further labeled data set, by its name, decoded as ``spec`` says.

    ``value`` as for :func:`open_outliers`; a source may be a text TRAIN::TEST or a mapping
    {"train": ..., "test": ...}. Without test images of its own, a fifth, chosen by ``seed`` and
    image id, is tested on. One of the papers' sets by name ("dtd") is divided as they do. The
    classes of the two are matched by name.

    >>> spec = DataSpec.of("scenes", limit=40, short_side=8)
    >>> [(name, len(test)) for name, (_, test) in open_transfer("scenes", spec).items()]
    [('scenes', 8)]
    """
    opened = {}
    for name, data in _by_name(value).items():
        if isinstance(data, str) and data in evaluation.TRANSFER_SETS:
            opened[name] = evaluation.open_transfer_set(data, spec=spec, seed=seed)
            continue
        train, test = _pair(data)
        one = replace(spec, source=source_of(train), split=None, needs_labels=True)
        other = None if test is None else replace(one.tests(), source=source_of(test))
        # The names of classes are then combinations of labels, and each part may have its own.
        several = transfer_metric(name) == "map11"
        images = RunData(images=one, test=other, own_test=True).open(
            train, test, own_classes=several
        )
        say_source(images.images)
        labeled = evaluation.labeled(images.images, "A transfer")
        if images.test is None:
            opened[name] = evaluation.split_test(labeled, seed=seed)
        else:
            opened[name] = (labeled, evaluation.labeled(images.test, "A transfer"))
    return opened


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, Mapping):
        if data.keys() != {"train", "test"}:
            raise InvalidValue(
                f"`transfer` has {sorted(map(str, data))}; expected 'train' and 'test'."
            )
        return data["train"], data["test"]
    if isinstance(data, str) and BETWEEN in data:
        train, _, test = data.partition(BETWEEN)
        if not train or not test:
            raise InvalidValue(f"`transfer` is {data!r}; expected TRAIN{BETWEEN}TEST.")
        return train, test
    return data, None


def _by_name(value: Any) -> dict[str, Any]:
    """Sources by name; two of one name are numbered."""
    if isinstance(value, Mapping):
        return {str(name): data for name, data in value.items()}
    listed = isinstance(value, list) or (
        isinstance(value, tuple) and all(is_path(item) for item in value)
    )
    items = list(value) if listed else [] if value is None else [value]
    named: dict[str, Any] = {}
    for data in items:
        name = base = name_of(_pair(data)[0])
        number = 1
        while name in named:
            number += 1
            name = f"{base} {number}"
        named[name] = data
    return named

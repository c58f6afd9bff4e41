"""What a classifier says of the test images, as files of a run hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coview.runs.job import Parts

Rows = npt.NDArray[np.int64]


def predictions_json(parts: Parts, logits: torch.Tensor) -> dict[str, Any]:
    """The class of each test image, by its number, beside the true one. ``source``: where the names
    are those of files, which another source may have as well."""
    probabilities, predicted = torch.softmax(logits, 1).max(1)
    return {
        "source": parts.held_out.source,
        "names": list(parts.held_out.names),
        "labels": np.asarray(parts.held_out.labels).tolist(),
        "predicted": predicted.tolist(),
        "probability": [round(value, 6) for value in probabilities.nan_to_num(0).tolist()],
    }


def confusions(names: Sequence[str], labels: Rows, predicted: Rows) -> dict[str, Any]:
    """The counts [true, predicted] of labeled images, and the accuracy of each class.

    Shapes: labels and predicted int64 [N], in the order of ``names``.

    >>> found = confusions(["cat", "dog"], np.array([0, 0, 1]), np.array([0, 1, 1]))
    >>> found["confusion"], found["per_class"][0]["accuracy"]
    ([[1, 1], [0, 1]], 0.5)
    """
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    per_class = [
        {
            "name": name,
            "images": int(row.sum()),
            "accuracy": float(row[number] / row.sum()) if row.sum() else None,
        }
        for number, (name, row) in enumerate(zip(names, confusion, strict=True))
    ]
    return {"classes": list(names), "confusion": confusion.tolist(), "per_class": per_class}

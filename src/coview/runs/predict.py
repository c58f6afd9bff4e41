"""The classes of images, by a fine-tuned network."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import RunError
from coview.core.images import images_fingerprint
from coview.core.options import takes
from coview.core.progress import progress
from coview.core.repeatable import repeatable
from coview.core.user_code import import_files
from coview.data.spec import DataSpec
from coview.data.stream import ImageStream
from coview.encoders.exchange.classifier import Classifier
from coview.encoders.exchange.convert import load_network
from coview.encoders.exchange.weights import read_config
from coview.evaluation import Subject
from coview.evaluation.features import vectors_of_parts
from coview.options import PredictOptions
from coview.runs.data import say_source
from coview.runs.embed import origin_of_table, write_table
from coview.runs.load import exported, say_verdict
from coview.training import choose_device
from coview.views import eval_view

if TYPE_CHECKING:
    import pyarrow as pa


@takes(PredictOptions)
def predict(options: PredictOptions) -> pa.Table:
    """A table of ``data`` with the columns name, class and probability, one row an image.

    ``run`` is a fine-tuned run, or the folder of an exported classifier. Written to ``out``
    where given, as CSV if it ends in .csv, else as Parquet. Raises RunError where there is no
    classifier.

    >>> import coview
    >>> table = coview.predict("runs/scenes-finetune", "scenes", limit=4)
    >>> table.num_rows, table.column_names
    (4, ['name', 'class', 'probability'])
    """
    import pyarrow as pa

    import_files(options.import_)
    out = options.out
    say_verdict(options.run)
    with exported(options.run, options.checkpoint) as folder:
        network, size = load_network(folder), int(read_config(folder)["image_size"])
    if not isinstance(network, Classifier):
        raise RunError(
            f"{options.run} has no classifier, its encoder alone; make one with: coview finetune "
            f"{quote(str(options.run))} LABELED"
        )
    device = choose_device(options.device)
    stream = DataSpec.of(options.data, options, size=size).stream(options.data)
    subject = Subject(
        name="classifier", encoder=network.to(device), view=eval_view(size), encoder_layer="logits"
    )
    names, logits, fingerprint = _logits(subject, stream, device)
    say_source(stream)
    probabilities, classes = torch.softmax(logits, 1).max(1)
    table = pa.table(
        {
            "name": pa.array(names),
            "class": pa.array([network.class_names[number] for number in classes.tolist()]),
            "probability": pa.array(probabilities.numpy()),
        }
    ).replace_schema_metadata(origin_of_table(options.data, fingerprint, stream.quarantine))
    if out is not None:
        write_table(table, out)
    return table


def _logits(
    subject: Subject, stream: ImageStream, device: torch.device
) -> tuple[list[str], Tensor, str]:
    """The names and logits [N, C] of the usable images, and their fingerprint. Each image is
    decoded once. Raises DataError as soon as too many are unusable."""
    names: list[str] = []
    logits: list[Tensor] = []
    facts: list[tuple[npt.NDArray[Any], ...]] = []
    parts = (part for _, part in stream.parts(np.arange(len(stream))))
    with progress("Predicting", len(stream)) as advance, repeatable(device):
        for part, vectors in vectors_of_parts(subject, parts, device=device):
            stream.check("At least ")
            names += part.names
            logits.append(vectors["logits"])
            labels = np.zeros(0, np.int64) if part.labels is None else part.labels
            facts.append((part.ids, part.heights, part.widths, part.content, labels))
            advance(len(part))
    stream.check()
    ids, heights, widths, content, labels = map(np.concatenate, zip(*facts, strict=True))
    fingerprint = images_fingerprint(
        ids, heights, widths, content, None if stream.labels is None else labels
    )
    return names, torch.cat(logits), fingerprint

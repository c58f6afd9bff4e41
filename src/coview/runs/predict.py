"""The classes of images, by a fine-tuned network."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import torch

from coview.core.errors import RunError
from coview.core.options import takes
from coview.core.user_code import import_files
from coview.data.spec import DataSpec
from coview.encoders.exchange.classifier import Classifier
from coview.encoders.exchange.convert import load_network
from coview.encoders.exchange.weights import read_config
from coview.evaluation import Subject, extract
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

    ``run`` is a fine-tuned run, or the folder of an exported classifier. Written as Parquet to
    ``out`` where given. Raises RunError where there is no classifier.

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
    store = DataSpec.of(options.data, options, size=size).open(options.data)
    say_source(store)
    subject = Subject(
        name="classifier", encoder=network.to(device), view=eval_view(size), encoder_layer="logits"
    )
    features = extract(subject, store, device=device, label="Predicting")
    probabilities, classes = torch.softmax(features.layers["logits"], 1).max(1)
    table = pa.table(
        {
            "name": pa.array(list(store.names)),
            "class": pa.array([network.class_names[number] for number in classes.tolist()]),
            "probability": pa.array(probabilities.numpy()),
        }
    ).replace_schema_metadata(origin_of_table(store, options.data))
    if out is not None:
        write_table(table, out)
    return table

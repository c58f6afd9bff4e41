"""The papers' linear protocol: SGD on features of randomly cropped images, by named settings.

All settings are trained at once: an epoch's crops pass the frozen encoder one time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from coview.core.errors import DataError, InvalidValue
from coview.core.eval_mode import eval_mode
from coview.core.rng import SGD_LINEAR_BATCHES, Stream, permutation, stream_seed
from coview.evaluation.benchmark import Benchmark, accuracy_result
from coview.evaluation.features import Subject, embed_views
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.views import Crop, ViewPlan, ViewSpec

PAPER_EPOCHS, CPU_EPOCHS = 90, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SGDSetting:
    """One published way to train the linear layer by SGD with momentum, without weight decay.

    ``learning_rate`` is that of 256 images, and grows with the batch. It falls along a cosine, or
    by a factor of 10 at each share of the training in ``steps``. ``normal_start``: the standard
    deviation of the first weights.
    """

    learning_rate: float
    batch_size: int
    source: str
    nesterov: bool = False
    steps: tuple[float, ...] = ()
    normal_start: float = 0.0
    momentum: float = 0.9

    def rate(self, batch: int, progress: float) -> float:
        """The learning rate of a batch of ``batch`` images after a share ``progress`` in [0, 1)."""
        peak = self.learning_rate * batch / 256
        if self.steps:
            return peak * 0.1 ** sum(progress >= step for step in self.steps)
        return peak * 0.5 * (1 + math.cos(math.pi * progress))


SETTINGS: Mapping[str, SGDSetting] = {
    "simclr": SGDSetting(
        learning_rate=0.1, batch_size=4096, nesterov=True,
        source="Chen et al. 2020, SimCLR, appendix B.6: 90 epochs",
    ),
    "moco": SGDSetting(
        learning_rate=30.0, batch_size=256, steps=(0.6, 0.8), normal_start=0.01,
        source="He et al. 2020, MoCo, published script: 100 epochs",
    ),
    "lightly": SGDSetting(
        learning_rate=0.1, batch_size=256, source="lightly's benchmarks: 90 epochs",
    ),
}  # fmt: skip


def evaluate_sgd_linear(
    benchmark: Benchmark,
    *,
    epochs: int | None = None,
    settings: Mapping[str, SGDSetting] = SETTINGS,
) -> list[Result]:
    """Test accuracy of a linear layer that SGD trained on random crops, for each named setting.

    ``epochs``: by default the papers' 90, on a CPU 10. A setting is {"recipe", "learning_rate",
    "batch_size", "epochs"}, the rate and the batch as used; the batch is at most the training part.
    Nothing is chosen, and the last epoch counts. Raises DataError with fewer than 2 classes,
    InvalidValue for no epoch.

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> results = evaluate_sgd_linear(make_benchmark([pixel_subject(8)], store), epochs=2)
    >>> [result.setting["recipe"] for result in results]
    ['simclr', 'moco', 'lightly']
    """
    on_cpu = torch.device(benchmark.device).type == "cpu"
    epochs = (CPU_EPOCHS if on_cpu else PAPER_EPOCHS) if epochs is None else epochs
    if epochs < 1:
        raise InvalidValue(f"`epochs` is {epochs}; expected at least 1.")
    card = {
        **benchmark.card,
        "classifier": "one linear layer on the features as they are, by SGD with momentum; the "
        "encoder is frozen and in evaluation mode",
        "augmentation": "a random crop of 8 to 100 % of the image and a flip, drawn by seed, epoch "
        "and image id; test images without augmentation",
        "epochs": f"{epochs}; the papers have {PAPER_EPOCHS} or 100. The schedules are shortened "
        "with them",
        "selection": "none: every setting is reported, after its last epoch",
        "recipes": {name: asdict(setting) for name, setting in settings.items()},
    }
    results = []
    for subject in benchmark.subjects:
        layers = train_layers(benchmark, subject, epochs, settings)
        test = benchmark.features_of(subject, benchmark.test)
        for layer, by_name in layers.items():
            for name, (layer_of_classes, labels, used) in by_name.items():
                with torch.no_grad():
                    predicted = labels[layer_of_classes(test.layers[layer]).argmax(1)]
                results.append(accuracy_result(
                    benchmark, predicted, protocol="sgd-linear", subject=subject.name, layer=layer,
                    setting={"recipe": name, **used, "epochs": epochs}, card=card,
                ))  # fmt: skip
    return results


Trained = tuple[nn.Linear, Tensor, dict[str, float]]
"""A linear layer, the label of each output, and the peak rate and the batch as used."""


def train_layers(
    benchmark: Benchmark, subject: Subject, epochs: int, settings: Mapping[str, SGDSetting]
) -> dict[str, dict[str, Trained]]:
    """For each layer of the subject and each named setting, the layer after the last epoch."""
    train = benchmark.train
    assert train.labels is not None
    names, classes = torch.unique(torch.from_numpy(train.labels.copy()), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"A linear layer needs at least 2 classes; the labels hold {len(names)}.")
    training: dict[str, dict[str, LayerTraining]] = {}
    for epoch in range(epochs):
        for layer, rows in _cropped_features(benchmark, subject, epoch, epochs).items():
            of_layer = training.setdefault(layer, {
                name: LayerTraining(setting, rows.shape, len(names), epochs, benchmark.seed)
                for name, setting in settings.items()
            })  # fmt: skip
            order = permutation(
                benchmark.seed, Stream.PROBE, train.ids, draw_index=SGD_LINEAR_BATCHES + epoch
            )
            for each in of_layer.values():
                each.run_epoch(rows, classes, torch.from_numpy(order))
    return {
        layer: {
            name: (each.linear, names, {"learning_rate": each.peak, "batch_size": each.batch})
            for name, each in of_layer.items()
        }
        for layer, of_layer in training.items()
    }  # fmt: skip


class LayerTraining:
    """One linear layer in training: ``run_epoch`` once for each epoch."""

    def __init__(
        self, setting: SGDSetting, shape: tuple[int, ...], classes: int, epochs: int, seed: int
    ) -> None:
        self._setting, (count, width) = setting, shape
        self.batch = min(setting.batch_size, count)
        self.peak = setting.rate(self.batch, 0.0)
        self.linear = nn.Linear(width, classes)
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.PROBE, "sgd-linear"))
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.linear.weight, std=setting.normal_start, generator=generator)
        self._optimizer = torch.optim.SGD(
            self.linear.parameters(), lr=self.peak, momentum=setting.momentum,
            nesterov=setting.nesterov,
        )  # fmt: skip
        self._steps, self._done = epochs * math.ceil(count / self.batch), 0

    def run_epoch(self, rows: Tensor, classes: Tensor, order: Tensor) -> None:
        """Steps over all rows [N, D], classes int64 [N], in the order int64 [N]."""
        for part in torch.split(order, self.batch):
            rate = self._setting.rate(self.batch, self._done / self._steps)
            self._optimizer.param_groups[0]["lr"] = rate
            self._optimizer.zero_grad()
            cross_entropy(self.linear(rows[part]), classes[part]).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._done += 1


def crop_view(plain: ViewSpec) -> ViewSpec:
    """The papers' view for linear training: a random crop and a flip at the size of ``plain``.

    >>> crop_view(ViewSpec(size=32)).crop.area
    (0.08, 1.0)
    """
    return ViewSpec(
        size=plain.size, crop=Crop(area=(0.08, 1.0)), flip=0.5, mean=plain.mean, std=plain.std
    )


def _cropped_features(
    benchmark: Benchmark, subject: Subject, epoch: int, epochs: int
) -> dict[str, Tensor]:
    modules = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    with eval_mode(*modules):
        (vectors,) = embed_views(
            lambda images: subject.outputs(images.to(benchmark.device), subject.layers),
            benchmark.train, ViewPlan(views=(crop_view(subject.view),)), seed=benchmark.seed,
            epoch=epoch, device=benchmark.device, batch_size=benchmark.batch_size,
            label=f"{subject.name} crops, epoch {epoch + 1} of {epochs}",
        )  # fmt: skip
    return dict(zip(subject.layers, vectors, strict=True))


SGD_LINEAR = Protocol(
    name="sgd-linear", title="Linear accuracy by SGD on crops", evaluate=evaluate_sgd_linear,
    question="How often does a linear layer name the class that was trained as in the papers?",
    headline={"metric": "accuracy", "recipe": "simclr"},
)  # fmt: skip

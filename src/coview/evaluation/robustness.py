"""How much of its accuracy does a linear classifier keep on corrupted images?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.evaluation.benchmark import Benchmark
from coview.evaluation.calibration import calibration_gaps, confidence_of, error_of_gaps
from coview.evaluation.corrupted_images import CorruptedImages, corrupted_images
from coview.evaluation.corruptions import NOT_PUBLISHED, SEVERITIES
from coview.evaluation.features import Subject, extract
from coview.evaluation.linear import ProbeSpec, probe_of
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.statistics import bootstrap_interval, wilson_interval, with_width

ALL_SEVERITIES = "1-5"
"""The setting of what is a mean over the severities."""
IMAGES = 1_000
"""Test images that are corrupted unless another number is given."""

ALEXNET_CLEAN = 0.435
ALEXNET: dict[str, float] = {
    "gaussian_noise": 0.8864, "shot_noise": 0.8945, "impulse_noise": 0.9226,
    "defocus_blur": 0.8199, "glass_blur": 0.8263, "motion_blur": 0.7859, "zoom_blur": 0.7984,
    "snow": 0.8668, "frost": 0.8266, "fog": 0.8193, "brightness": 0.5646, "contrast": 0.8532,
    "elastic": 0.6461, "pixelate": 0.7178, "jpeg": 0.6065,
}  # fmt: skip
"""Errors of AlexNet on ImageNet-C, means over the severities, as they are commonly used for mCE.
They are of ImageNet alone, and not checked against the paper's own table."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What one classifier said: right or not, and how sure it was.

    Shapes: clean and its confidence [M]; correct and confidence [N, corruptions, severities].
    """

    clean: Floats
    clean_confidence: Floats
    correct: Floats
    confidence: Floats

    @property
    def errors(self) -> Floats:
        """The error of each image under each corruption, mean over severities: [N, corruptions]."""
        errors: Floats = 1 - self.correct.mean(axis=2)
        return errors


def evaluate_robustness(
    benchmark: Benchmark, *, images: int | None = IMAGES, spec: ProbeSpec | None = None
) -> list[Result]:
    """Accuracy, corruption error and calibration on clean and corrupted test images.

    A linear probe on clean training features is tested on every corruption and severity, at each
    layer of each subject; on the layer of a classifier's logits these themselves, if it knows every
    class of the data by its name. ``images``: so many test images, chosen by seed and id, or None
    for all. With ``benchmark.corrupted`` the corrupted images come from published files, else they
    are drawn.

    Results: "accuracy" by {"severity"}, the mean "1-5" first, 0 is clean; "mean_corruption_error",
    which is 1 minus that mean; "ece" by {"severity"}; "error" by {"corruption"}; "mce" and
    "relative_mce" relative to {"reference"}; of the encoder's layer "error" by {"corruption",
    "severity"}, too. The relative mCE is left out where the reference loses nothing under a
    corruption. Intervals: the bootstrap over test images.
    Source: Hendrycks and Dietterich 2019, section 4.
    Raises InvalidValue for a number of images below 1, DataError for other files than expected.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(40) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (16, 16, 1)), labels=np.arange(40) % 2)
    >>> results = evaluate_robustness(
    ...     make_benchmark([pixel_subject(8)], store), spec=ProbeSpec(epochs=1))
    >>> [(r.metric, r.setting) for r in results[:2]], results[2].setting, results[2].value
    ([('accuracy', {'severity': '1-5'}), ('mean_corruption_error', {})], {'severity': 0}, 1.0)
    """
    if images is not None and images < 1:
        raise InvalidValue(f"`images` is {images}; expected at least 1, or None for all.")
    spec = spec or ProbeSpec(seed=benchmark.seed)
    source = corrupted_images(
        benchmark.test, folder=benchmark.corrupted, limit=images, seed=benchmark.seed,
        size=max(subject.view.size for subject in benchmark.subjects),
    )  # fmt: skip
    answers = _answers(benchmark, source, spec)
    reference = _Reference.of(benchmark, source, answers)
    card = {**benchmark.card, **source.card, **_card(spec, source, reference)}
    return [
        Result(protocol="robustness", subject=subject.name, layer=layer, card=card, **row)
        for subject in benchmark.subjects
        for layer in subject.layers
        for row in _rows(
            answers[subject.name, layer], source, reference, seed=benchmark.seed,
            cells=layer == subject.encoder_layer,
        )
    ]  # fmt: skip


def _answers(
    benchmark: Benchmark, source: CorruptedImages, spec: ProbeSpec
) -> dict[tuple[str, str], Answers]:
    """The answers of every subject and layer; one set of corrupted images is held at a time."""
    cells = [(name, severity) for name in source.names for severity in SEVERITIES]
    judges = {subject.name: _Judge(benchmark, subject, spec) for subject in benchmark.subjects}
    clean = {
        (name, layer): answer
        for name, judge in judges.items()
        for layer, answer in judge.answer(source.clean).items()
    }
    told: dict[tuple[str, str], list[tuple[Floats, Floats]]] = {key: [] for key in clean}
    with progress("corruptions", len(cells), unit="conditions") as advance:
        for cell in cells:
            store = source.load(*cell)
            for name, judge in judges.items():
                for layer, answer in judge.answer(store).items():
                    told[name, layer].append(answer)
            advance()
    shape = (len(source.names), len(SEVERITIES))
    made = {}
    for key, answers in told.items():
        correct, confidence = (
            np.stack(part, axis=1).reshape(-1, *shape) for part in zip(*answers, strict=True)
        )
        made[key] = Answers(
            clean=clean[key][0], clean_confidence=clean[key][1],
            correct=correct, confidence=confidence,
        )  # fmt: skip
    return made


class _Judge:
    """The classifiers of one subject, one for each layer."""

    def __init__(self, benchmark: Benchmark, subject: Subject, spec: ProbeSpec) -> None:
        self.benchmark, self.subject = benchmark, subject
        self.own_labels = own_labels(subject, benchmark.train, benchmark.test)
        self.probes = {
            layer: None
            if layer == subject.logits and self.own_labels is not None
            else probe_of(benchmark, subject, layer, spec)
            for layer in subject.layers
        }

    def answer(self, store: ImageStore) -> dict[str, tuple[Floats, Floats]]:
        """(right or not, confidence) for every image, by layer. The features are not kept."""
        benchmark = self.benchmark
        features = extract(
            self.subject, store, device=benchmark.device, batch_size=benchmark.batch_size
        )
        assert store.labels is not None
        truth = torch.from_numpy(store.labels)
        return {
            layer: self._of_layer(features.layers[layer], truth, layer)
            for layer in self.subject.layers
        }

    def _of_layer(self, rows: Tensor, truth: Tensor, layer: str) -> tuple[Floats, Floats]:
        probe = self.probes[layer]
        logits = rows if probe is None else probe.logits(rows)
        labels = self.own_labels if probe is None else probe.labels
        assert labels is not None
        predicted = labels[logits.argmax(1).to(labels.device)]
        return (predicted.cpu() == truth).double().numpy(), confidence_of(logits)


def own_labels(subject: Subject, *stores: ImageStore) -> Tensor | None:
    """The label that each logit of a classifier has in the last of ``stores``: int64 [C].

    It is -1 for a class that the store does not have. None where the subject has no logits, or
    where a class of some image has a name that the classifier does not know.

    >>> from torch import nn
    >>> from coview.core.images import store_from_arrays
    >>> from coview.views import eval_view
    >>> subject = Subject(name="a", encoder=nn.Flatten(), view=eval_view(8), logits="h",
    ...     class_names=("ant", "bee", "cat"))
    >>> store = store_from_arrays(np.zeros((2, 8, 8, 3), np.uint8), labels=np.arange(2),
    ...     class_names=("cat", "bee"))
    >>> own_labels(subject, store)
    tensor([-1,  1,  0])
    """
    if not subject.logits:
        return None
    labels: dict[str, int] = {}
    for store in stores:
        assert store.labels is not None
        numbers = np.unique(store.labels).tolist()
        names = store.class_names or range(max(numbers) + 1)
        labels = {str(names[number]): number for number in numbers}
        if not labels.keys() <= set(subject.class_names):
            return None
    return torch.tensor([labels.get(name, -1) for name in subject.class_names])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reference:
    """The errors that others are divided by.

    Shapes: errors [N, corruptions], or [1, corruptions] where they are published constants; clean
    [N] or [1]. ``columns``: the corruptions that enter, as places in the source's names.
    """

    name: str
    errors: Floats
    clean: Floats
    columns: list[int]

    @classmethod
    def of(
        cls, benchmark: Benchmark, source: CorruptedImages, answers: dict[tuple[str, str], Answers]
    ) -> _Reference:
        names = source.names
        if is_imagenet(benchmark.train.class_names):
            drawn = () if source.published else NOT_PUBLISHED
            columns = [place for place, name in enumerate(names) if name not in drawn]
            return cls(
                name="AlexNet", columns=columns, clean=np.array([ALEXNET_CLEAN]),
                errors=np.array([[ALEXNET[name] for name in names]]),
            )  # fmt: skip
        first = benchmark.subjects[0]
        answer = answers[first.name, first.encoder_layer]
        return cls(
            name=f"{first.name}, {first.encoder_layer}", columns=list(range(len(names))),
            errors=answer.errors, clean=1 - answer.clean,
        )  # fmt: skip

    def at(self, rows: Rows, *, paired: bool) -> tuple[Floats, float]:
        """Errors by corruption and the clean error, of these test images."""
        constant = len(self.errors) == 1
        errors = self.errors[0] if constant else self.errors[rows].mean(axis=0)
        clean = self.clean[rows] if paired and not constant else self.clean
        return errors[self.columns], float(clean.mean())


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Whether these are the 1,000 classes of ImageNet, by their WordNet numbers.

    >>> is_imagenet([f"n{number:08d}" for number in range(1000)]), is_imagenet(["cat", "dog"])
    (True, False)
    """
    return len(class_names) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in class_names)


def _rows(
    answers: Answers, source: CorruptedImages, reference: _Reference, *, seed: int, cells: bool
) -> Iterator[dict[str, Any]]:
    """Metric, value, interval, setting and number of images of each figure of one layer."""
    count = len(answers.correct)
    mean_error = 1 - answers.correct.mean(axis=(1, 2))
    yield _mean_row("accuracy", {"severity": ALL_SEVERITIES}, 1 - mean_error, seed)
    yield _mean_row("mean_corruption_error", {}, mean_error, seed)
    yield _mean_row("accuracy", {"severity": 0}, answers.clean, seed)
    for place, severity in enumerate(SEVERITIES):
        accuracy = answers.correct[:, :, place].mean(axis=1)
        yield _mean_row("accuracy", {"severity": severity}, accuracy, seed)
    gaps = calibration_gaps(answers.clean_confidence, answers.clean)
    yield _calibration_row(0, gaps, 1, seed)
    for place, severity in enumerate(SEVERITIES):
        parts = (answers.confidence[:, :, place], answers.correct[:, :, place])
        flat = calibration_gaps(*(part.ravel() for part in parts))
        conditions = len(source.names)
        gaps = flat.reshape(count, conditions, -1).sum(axis=1)
        yield _calibration_row(severity, gaps, conditions, seed)
    for column, name in enumerate(source.names):
        yield _mean_row("error", {"corruption": name}, answers.errors[:, column], seed)
    yield from _relative_rows(answers, reference, paired=source.paired, seed=seed)
    for column, name in enumerate(source.names if cells else ()):
        for place, severity in enumerate(SEVERITIES):
            error = float(1 - answers.correct[:, column, place].mean())
            yield {
                "metric": "error", "value": error, "interval": wilson_interval(error, count),
                "test_images": count, "setting": {"corruption": name, "severity": severity},
            }  # fmt: skip


def _mean_row(metric: str, setting: dict[str, Any], values: Floats, seed: int) -> dict[str, Any]:
    """The mean over images; of plain outcomes with the Wilson interval, else by the bootstrap."""
    value = float(values.mean())
    plain = bool(np.isin(values, (0.0, 1.0)).all())
    if plain:
        interval = wilson_interval(min(max(value, 0.0), 1.0), len(values))
    else:
        drawn = bootstrap_interval(lambda rows: float(values[rows].mean()), len(values), seed=seed)
        interval = with_width(drawn, len(values))
    return {
        "metric": metric, "value": value, "interval": interval, "test_images": len(values),
        "setting": setting,
    }  # fmt: skip


def _calibration_row(severity: int, gaps: Floats, conditions: int, seed: int) -> dict[str, Any]:
    """A draw of the bootstrap repeats images, so that its bins are noisier than those of the
    images and its error is higher; the interval is moved by this bias."""
    count = len(gaps)
    draws: list[float] = []

    def error(rows: Rows) -> float:
        draws.append(error_of_gaps(gaps[rows], count * conditions))
        return draws[-1]

    low, high = bootstrap_interval(error, count, seed=seed)
    value = error_of_gaps(gaps, count * conditions)
    bias = float(np.mean(draws)) - value
    return {
        "metric": "ece", "value": value, "interval": (max(0.0, low - bias), high - bias),
        "test_images": count, "setting": {"severity": severity},
    }  # fmt: skip


def _relative_rows(
    answers: Answers, reference: _Reference, *, paired: bool, seed: int
) -> Iterator[dict[str, Any]]:
    errors = answers.errors[:, reference.columns]
    clean = 1 - answers.clean
    everything = np.arange(len(errors))
    setting = {"reference": reference.name, "corruptions": len(reference.columns)}

    def mce(rows: Rows) -> float:
        theirs, _ = reference.at(rows, paired=paired)
        return _mean_ratio(errors[rows].mean(axis=0), theirs)

    def relative_mce(rows: Rows) -> float:
        theirs, their_clean = reference.at(rows, paired=paired)
        own_clean = float((clean[rows] if paired else clean).mean())
        return _mean_ratio(errors[rows].mean(axis=0) - own_clean, theirs - their_clean)

    for metric, statistic in (("mce", mce), ("relative_mce", relative_mce)):
        value = statistic(everything)
        if np.isfinite(value):
            yield {
                "metric": metric, "value": value, "setting": setting, "test_images": len(errors),
                "interval": bootstrap_interval(statistic, len(errors), seed=seed),
            }  # fmt: skip


def _mean_ratio(own: Floats, theirs: Floats) -> float:
    """The mean of the ratios; NaN where one divides by nothing or less."""
    return float((own / theirs).mean()) if (theirs > 0).all() else float("nan")


def _card(spec: ProbeSpec, source: CorruptedImages, reference: _Reference) -> dict[str, Any]:
    if reference.name == "AlexNet":
        reference_text = (
            "errors of AlexNet on ImageNet-C as they are commonly used, not checked against the "
            "paper's table; they hold for ImageNet at 224 pixels alone"
        )
        if not source.published:
            reference_text += (
                f"; without {', '.join(NOT_PUBLISHED)}, and on drawn corruptions, so that the mCE "
                "is not that of the published files"
            )
    else:
        reference_text = (
            "the first subject judged, which the setting of each figure names, because the usual "
            "errors of AlexNet hold for ImageNet alone; figures of another reference are not "
            "comparable"
        )
    return {
        "classifier": "linear probe on clean training features, as in the protocol linear; on the "
        "layer of a classifier's logits these themselves, if it knows every class by its name",
        "probe": asdict(spec),
        "severities": "1 to 5; severity 0 is the clean image",
        "mean corruption error": "mean over images, corruptions and severities",
        "mce": "mean over corruptions of error / error of the reference, each a mean over "
        "severities; relative mCE: of the rises above the clean error",
        "reference": reference_text,
        "calibration": "expected calibration error in 15 bins of equal width, of softmax "
        "probabilities; by severity over all corruptions together",
        "interval": "bootstrap over test images with all their corruptions; that of the "
        "calibration error is moved by the bootstrap's bias; a plain share has Wilson's",
        "selection": "none on test images",
    }


ROBUSTNESS = Protocol(
    name="robustness",
    title="Robustness",
    question="How much accuracy and calibration does a linear classifier keep under fifteen "
    "corruptions of the test images?",
    evaluate=evaluate_robustness,
    headline={"metric": "accuracy", "severity": ALL_SEVERITIES},
    axis="severity",
)

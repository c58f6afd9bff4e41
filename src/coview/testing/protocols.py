"""The contract of protocols: a benchmark -> results that can be trusted, kept and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch

from coview.core.images import ImageStore, store_from_arrays
from coview.core.metrics import headline_misfit, metric_of
from coview.encoders import resnet
from coview.evaluation import (
    Benchmark,
    Protocol,
    Result,
    Subject,
    make_benchmark,
    pixel_subject,
    read_results,
    write_results,
)
from coview.heads import HeadSpec
from coview.testing.contract import run_checks
from coview.views import eval_view

MakeBenchmark = Callable[[], Benchmark]
SIDE, CLASSES = 8, 3
RATIOS = ("mce", "relative_mce")
"""Metrics that are shown as shares and may be above 1, or negative."""


def check_protocol(protocol: Protocol, benchmark: MakeBenchmark | None = None) -> None:
    """Run PROTOCOL_CHECKS on a protocol.

    ``benchmark`` makes the benchmark of each check, for a protocol that needs other data than
    :func:`example_benchmark` has. Raises AssertionError with the names of the failed checks.

    >>> from coview.evaluation import PROTOCOLS
    >>> check_protocol(PROTOCOLS["knn"])
    """
    make = benchmark or example_benchmark
    checks = []
    for check in PROTOCOL_CHECKS:

        def run(protocol: Protocol, check: Check = check) -> None:
            check(protocol, make)

        run.__name__ = check.__name__
        checks.append(run)
    run_checks(checks, protocol)


def example_benchmark() -> Benchmark:
    """A small network with a head, and raw pixels, on 72 images of three classes.

    With images from elsewhere and another labeled data set; 24 of the images are tested on.

    >>> benchmark = example_benchmark()
    >>> [subject.name for subject in benchmark.subjects], len(benchmark.test)
    (['small', 'pixels'], 24)
    """
    encoder = resnet(10, width=0.125, stem="small")
    head = HeadSpec(layers=2, hidden=16, output=8).build(encoder.features)
    small = Subject(name="small", encoder=encoder, head=head, view=eval_view(SIDE))
    other = example_images(36, seed=3, source="other")
    return make_benchmark(
        [small, pixel_subject(SIDE)], example_images(48, seed=0), example_images(24, seed=1),
        outliers={"noise": example_images(20, seed=2, source="noise", classes=0)},
        others={"other": (other.subset(np.arange(24)), other.subset(np.arange(24, 36)))},
    )  # fmt: skip


def example_images(
    count: int, *, seed: int, source: str = "example", classes: int = CLASSES
) -> ImageStore:
    """Noise in which each class has a brighter color; without labels for 0 classes.

    >>> example_images(6, seed=0).labels.tolist()
    [0, 1, 2, 0, 1, 2]
    """
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 160, (count, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(count) % max(classes, 1)
    if classes:
        pixels[np.arange(count), :, :, labels] += 80
    return store_from_arrays(
        pixels, source=f"{source}-{seed}", labels=labels.astype(np.int64) if classes else None,
        class_names=tuple("abcdefgh"[:classes]),
    )  # fmt: skip


def results_are_of_every_subject(
    protocol: Protocol, make: MakeBenchmark = example_benchmark
) -> None:
    """Each subject has a result, and each result is of a subject and of this protocol."""
    benchmark = make()
    results = protocol.evaluate(benchmark)
    named, known = {each.subject for each in results}, {each.name for each in benchmark.subjects}
    assert named == known, f"results of {sorted(named)}, subjects are {sorted(known)}"
    protocols = {each.protocol for each in results}
    assert protocols == {protocol.name}, f"the results say that they are of {sorted(protocols)}"


def intervals_hold_the_value(protocol: Protocol, make: MakeBenchmark = example_benchmark) -> None:
    """Each value is finite and within its interval; a share is within [0, 1]."""
    for each in protocol.evaluate(make()):
        low, high = each.interval
        assert np.isfinite(each.value), f"{_words(each)} is {each.value}"
        assert low <= each.value <= high, f"{_words(each)} {each.value} is not in {each.interval}"
        share = metric_of(each.metric).format == "share" and each.metric not in RATIOS
        assert not share or 0 <= each.value <= 1, f"{_words(each)} is {each.value}"
        assert each.test_images >= 1, f"{_words(each)} is of {each.test_images} images"


def outcomes_are_of_the_test_images(
    protocol: Protocol, make: MakeBenchmark = example_benchmark
) -> None:
    """Where a result says which images were right, it says it of all test images."""
    benchmark = make()
    for each in protocol.evaluate(benchmark):
        if each.outcomes is not None:
            count = each.outcomes.count
            assert count == each.test_images, f"{_words(each)}: outcomes of {count} images"
            assert len(each.outcomes.array()) == count


def the_same_twice(protocol: Protocol, make: MakeBenchmark = example_benchmark) -> None:
    """Equal results from an equal benchmark, whatever the global generators are at."""
    torch.manual_seed(1)
    first = protocol.evaluate(make())
    torch.manual_seed(2)
    torch.rand(7)
    assert protocol.evaluate(make()) == first, "a second call gives other results"


def subjects_stay_as_they_are(protocol: Protocol, make: MakeBenchmark = example_benchmark) -> None:
    """No weight, no BatchNorm statistic, no training flag, no gradient of a subject changes."""
    benchmark = make()
    for subject in benchmark.subjects:
        subject.encoder.train()

    def state() -> list[object]:
        return [
            (subject.name, subject.weights_hash, subject.encoder.training,
             [parameter.grad is None and parameter.requires_grad
              for parameter in subject.encoder.parameters()])
            for subject in benchmark.subjects
        ]  # fmt: skip

    before = state()
    protocol.evaluate(benchmark)
    assert state() == before, "evaluation has changed a subject"


def labels_change_nothing_where_none_is_needed(
    protocol: Protocol, make: MakeBenchmark = example_benchmark
) -> None:
    """A protocol without ``needs_labels`` gives equal figures of images without labels."""
    if protocol.needs_labels:
        return
    with_labels = make()
    bare = replace(
        with_labels,
        train=replace(with_labels.train, labels=None), test=replace(with_labels.test, labels=None),
    )  # fmt: skip
    one, other = protocol.evaluate(with_labels), protocol.evaluate(bare)
    assert list(map(_fields, one)) == list(map(_fields, other)), "labels change the figures"


def files_give_equal_results(protocol: Protocol, make: MakeBenchmark = example_benchmark) -> None:
    """Written as JSON and read again, results are equal; their settings are plain values."""
    benchmark = make()
    results = protocol.evaluate(benchmark)
    with TemporaryDirectory() as folder:
        write_results(
            Path(folder), results, data=benchmark.data,
            descriptions={protocol.name: protocol.description},
        )  # fmt: skip
        again = read_results(Path(folder))
    shared = SimpleNamespace(card=again[0].card)
    for one, other in zip(results, again, strict=True):
        assert _fields(one) == _fields(other), f"{_words(one)} is read as {_words(other)}"
        assert other.card == shared.card


def the_headline_is_there(protocol: Protocol, make: MakeBenchmark = example_benchmark) -> None:
    """A result is exactly the one that represents the protocol; the axis is a number in one."""
    description, results = protocol.description, protocol.evaluate(make())
    headline = description["headline"]
    fits = [
        each
        for each in results
        if not any(headline_misfit(headline, each.layer, each.metric, each.setting))
    ]
    assert fits, f"no result is the one that `headline` names: {headline}"
    axis = description["axis"]
    values = [each.setting.get(axis) for each in results]
    numbers = any(isinstance(value, int | float) for value in values)
    assert not axis or numbers, f"no setting has a number {axis!r}, which is the `axis`"


def _fields(result: Result) -> tuple[object, ...]:
    return (
        result.protocol, result.subject, result.layer, result.metric, result.value,
        tuple(result.interval), result.test_images, dict(result.setting), dict(result.per_class),
        result.outcomes,
    )  # fmt: skip


def _words(result: Result) -> str:
    return f"{result.metric} of {result.subject} on {result.layer} ({dict(result.setting)})"


Check = Callable[[Protocol, MakeBenchmark], None]

PROTOCOL_CHECKS: tuple[Check, ...] = (
    results_are_of_every_subject, intervals_hold_the_value, outcomes_are_of_the_test_images,
    the_same_twice, subjects_stay_as_they_are, labels_change_nothing_where_none_is_needed,
    files_give_equal_results, the_headline_is_there,
)  # fmt: skip

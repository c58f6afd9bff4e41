"""Our protocols keep the contract, and one that breaks it is told."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from coview.evaluation import PROTOCOLS, Outcomes, Protocol, Result
from coview.testing import PROTOCOL_CHECKS, check_protocol, example_benchmark
from coview.testing.protocols import (
    labels_change_nothing_where_none_is_needed,
    subjects_stay_as_they_are,
    the_same_twice,
)

HERE = [name for name, protocol in PROTOCOLS.items() if "corrupted" not in protocol.needs]


@functools.cache
def results_of(name):
    """Of the benchmark of the checks, computed once: several protocols take seconds."""
    return PROTOCOLS[name].evaluate(example_benchmark())


@pytest.mark.parametrize("check", PROTOCOL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", HERE)
def test_protocol_contract(name, check):
    protocol = PROTOCOLS[name]
    if check is the_same_twice:  # the first time is that of the other checks
        calls = iter((lambda benchmark: results_of(name), protocol.evaluate))
        check(replace(protocol, evaluate=lambda benchmark: next(calls)(benchmark)))
    elif check in (subjects_stay_as_they_are, labels_change_nothing_where_none_is_needed):
        check(protocol)
    else:
        check(replace(protocol, evaluate=lambda benchmark: results_of(name)))


def result(subject, **fields):
    return Result(**{
        "protocol": "mine", "subject": subject, "layer": "h", "metric": "accuracy", "value": 0.5,
        "interval": (0.4, 0.6), "test_images": 24, "setting": {}, "card": {}, **fields,
    })  # fmt: skip


def protocol(evaluate, **fields):
    return Protocol(name="mine", title="Mine", question="?", evaluate=evaluate, **fields)


def every(benchmark, **fields):
    return [result(subject.name, **fields) for subject in benchmark.subjects]


def trains(benchmark):
    with torch.no_grad():
        next(benchmark.subjects[0].encoder.parameters()).add_(1)
    return every(benchmark)


def leaves_the_mode(benchmark):
    benchmark.subjects[0].encoder.eval()
    return every(benchmark)


@pytest.mark.parametrize(
    ("evaluate", "fields", "failed"),
    [
        (lambda b: every(b)[:1], {}, "results_are_of_every_subject"),
        (lambda b: every(b, protocol="other"), {}, "results_are_of_every_subject"),
        (lambda b: every(b, interval=(0.6, 0.7)), {}, "intervals_hold_the_value"),
        (lambda b: every(b, value=1.5, interval=(1, 2)), {}, "intervals_hold_the_value"),
        (lambda b: every(b, value=float("nan")), {}, "intervals_hold_the_value"),
        (lambda b: every(b, outcomes=Outcomes.of(np.ones(3, bool))), {}, "outcomes_are_of"),
        (lambda b: every(b, setting={"draw": float(torch.rand(()))}), {}, "the_same_twice"),
        (
            lambda b: every(b, test_images=len(np.unique(b.test.labels))),
            {"needs_labels": False},
            "labels_change_nothing",
        ),
        (trains, {}, "subjects_stay_as_they_are"),
        (leaves_the_mode, {}, "subjects_stay_as_they_are"),
        (lambda b: every(b, setting={"k": (1, 2)}), {}, "files_give_equal_results"),
        (lambda b: every(b), {"headline": {"metric": "auroc"}}, "the_headline_is_there"),
        (lambda b: every(b), {"axis": "labels"}, "the_headline_is_there"),
    ],
)
def test_a_broken_protocol_is_told(evaluate, fields, failed):
    with pytest.raises(AssertionError, match=failed):
        check_protocol(protocol(evaluate, **fields))


def test_a_protocol_that_keeps_it_is_silent_and_may_bring_its_data():
    seen = []

    def make():
        seen.append(replace(example_benchmark(), seed=7))
        return seen[-1]

    check_protocol(protocol(every), make)
    assert len(seen) >= len(PROTOCOL_CHECKS)

"""Subjects on a benchmark -> results: one module per protocol. Never trains a network."""

from collections.abc import Callable

from coview.evaluation.benchmark import Benchmark, make_benchmark, split_test
from coview.evaluation.features import (
    Features,
    Subject,
    embed_views,
    extract,
    labeled,
    pixel_subject,
)
from coview.evaluation.knn import evaluate_knn, knn_accuracies, knn_accuracy, knn_monitor
from coview.evaluation.linear import Probe, ProbeSpec, evaluate_linear, linear_probe
from coview.evaluation.result import Result, read_results, wilson_interval, write_results

PROTOCOLS: dict[str, Callable[[Benchmark], list[Result]]] = {
    "knn": evaluate_knn,
    "linear": evaluate_linear,
}
"""Every protocol by its name."""

__all__ = [
    "PROTOCOLS", "Benchmark", "Features", "Probe", "ProbeSpec", "Result", "Subject", "embed_views",
    "evaluate_knn", "evaluate_linear", "extract", "knn_accuracies", "knn_accuracy", "knn_monitor",
    "labeled", "linear_probe", "make_benchmark", "pixel_subject", "read_results", "split_test",
    "wilson_interval", "write_results",
]  # fmt: skip

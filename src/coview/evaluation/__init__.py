"""A frozen encoder -> numbers: features, nearest neighbors, linear probes, and their results."""

from coview.evaluation.benchmark import Benchmark, compare, evaluate_knn, evaluate_linear
from coview.evaluation.features import Features, extract, pixel_features, weights_fingerprint
from coview.evaluation.knn import knn_accuracies, knn_accuracy, neighbors
from coview.evaluation.knn_monitor import knn_monitor
from coview.evaluation.linear import Probe, ProbeSpec, linear_probe

__all__ = [
    "Benchmark",
    "Features",
    "Probe",
    "ProbeSpec",
    "compare",
    "evaluate_knn",
    "evaluate_linear",
    "extract",
    "knn_accuracies",
    "knn_accuracy",
    "knn_monitor",
    "linear_probe",
    "neighbors",
    "pixel_features",
    "weights_fingerprint",
]

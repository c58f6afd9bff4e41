"""A frozen encoder -> numbers: features, nearest neighbours, linear probes, and their results."""

from coview.evaluation.features import Features, extract, pixel_features, weights_fingerprint
from coview.evaluation.knn import knn_accuracies, knn_accuracy, neighbours
from coview.evaluation.linear import Probe, ProbeSpec, linear_probe
from coview.evaluation.online import online_knn
from coview.evaluation.protocol import Comparison, compare, evaluate_knn, evaluate_linear

__all__ = [
    "Comparison",
    "Features",
    "Probe",
    "ProbeSpec",
    "compare",
    "evaluate_knn",
    "evaluate_linear",
    "extract",
    "knn_accuracies",
    "knn_accuracy",
    "linear_probe",
    "neighbours",
    "online_knn",
    "pixel_features",
    "weights_fingerprint",
]

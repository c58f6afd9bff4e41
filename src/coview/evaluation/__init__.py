"""Subjects on a benchmark -> results: one module per protocol. Never trains a network."""

from coview.core.errors import InvalidValue
from coview.evaluation.benchmark import Benchmark, make_benchmark, parts_of, split_test
from coview.evaluation.clustering import CLUSTERING, evaluate_clustering
from coview.evaluation.contrastive import CONTRASTIVE, evaluate_contrastive
from coview.evaluation.feature_cache import FeatureCache
from coview.evaluation.features import (
    Features,
    Subject,
    embed_views,
    extract,
    labeled,
    pixel_subject,
)
from coview.evaluation.few_labels import FEW_LABELS, evaluate_few_labels
from coview.evaluation.invariance import INVARIANCE, evaluate_invariance
from coview.evaluation.knn import KNN, evaluate_knn, knn_accuracies, knn_accuracy, knn_monitor
from coview.evaluation.label_free import LABEL_FREE, evaluate_label_free
from coview.evaluation.linear import LINEAR, Probe, ProbeSpec, evaluate_linear, linear_probe
from coview.evaluation.logistic import LOGISTIC, LogisticSpec, evaluate_logistic
from coview.evaluation.ood import OOD, evaluate_ood
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import (
    Outcomes,
    Result,
    read_results,
    result_contents,
    write_results,
)
from coview.evaluation.retrieval import RETRIEVAL, evaluate_retrieval
from coview.evaluation.robustness import ROBUSTNESS, evaluate_robustness
from coview.evaluation.sgd_linear import SGD_LINEAR, evaluate_sgd_linear
from coview.evaluation.statistics import (
    bootstrap_interval,
    mean_interval,
    paired_permutation_test,
    wilson_interval,
)
from coview.evaluation.transfer import TRANSFER, evaluate_transfer
from coview.evaluation.transfer_sets import TRANSFER_SETS, open_transfer_set

_OWN = (
    KNN, LINEAR, LOGISTIC, SGD_LINEAR, FEW_LABELS, TRANSFER, RETRIEVAL, CLUSTERING, LABEL_FREE,
    OOD, ROBUSTNESS, INVARIANCE, CONTRASTIVE,
)  # fmt: skip
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _OWN}
"""Every protocol by its name."""


def register_protocol(protocol: Protocol) -> Protocol:
    """Make ``protocol`` a word of `--protocols`. Raises InvalidValue for a name that is taken.

    A file that is given by `--import` may call it.

    >>> from coview.evaluation import PROTOCOLS, Protocol
    >>> mine = Protocol(name="mine", title="Mine", question="?", evaluate=lambda benchmark: [])
    >>> register_protocol(mine) is PROTOCOLS.pop("mine")
    True
    """
    if PROTOCOLS.setdefault(protocol.name, protocol) != protocol:
        raise InvalidValue(f"There is a protocol {protocol.name!r} already; choose another name.")
    return protocol


__all__ = [
    "PROTOCOLS", "TRANSFER_SETS", "Benchmark", "FeatureCache", "Features", "LogisticSpec",
    "Outcomes", "Probe", "ProbeSpec", "Protocol", "Result", "Subject", "bootstrap_interval",
    "embed_views", "evaluate_clustering", "evaluate_contrastive", "evaluate_few_labels",
    "evaluate_invariance", "evaluate_knn", "evaluate_label_free", "evaluate_linear",
    "evaluate_logistic", "evaluate_ood", "evaluate_retrieval", "evaluate_robustness",
    "evaluate_sgd_linear", "evaluate_transfer", "extract", "knn_accuracies", "knn_accuracy",
    "knn_monitor", "labeled", "linear_probe", "make_benchmark", "mean_interval",
    "open_transfer_set", "paired_permutation_test", "parts_of", "pixel_subject", "read_results",
    "register_protocol", "result_contents", "split_test", "wilson_interval", "write_results",
]  # fmt: skip

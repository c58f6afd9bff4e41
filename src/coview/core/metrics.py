"""The metrics of evaluations: names and explanations, no torch.

Protocols name them in results; tables and reports read their words, format and direction here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coview.core.figures import Figure
from coview.core.text import plural

MIN_P, LEVEL = 0.001, 0.05
"""Smaller p values than MIN_P are not told apart in words; a difference is shown below LEVEL."""
FEW_TEST_IMAGES = 30
"""Fewer test images say little of a figure."""

METRICS: dict[str, Figure] = {
    "accuracy": Figure("Accuracy", "share of test images whose class is predicted", "share",
        "higher"),
    "mean_per_class": Figure("Mean per class",
        "mean over the classes of the share of their test images that is predicted", "share",
        "higher"),
    "map11": Figure("11-point mAP",
        "mean over the classes of the precision at 11 recalls (PASCAL VOC 2007)", "share",
        "higher"),
    "transfer_mean": Figure("Mean over data sets",
        "mean of the figures of all data sets, each by its own metric", "share", "higher"),
    "auroc": Figure("AUROC",
        "chance that an image of the data scores higher than an image from elsewhere; 50 %: "
        "none is told from the other", "share", "higher"),
    "fpr95": Figure("FPR95",
        "share of the images from elsewhere that are taken for the data where 95 % of the data are "
        "kept", "share", "lower"),
    "aupr": Figure("AUPR", "area under precision and recall; the card names the positive class",
        "share", "higher"),
    "error": Figure("Error", "share of test images whose class is not predicted", "share", "lower"),
    "mean_corruption_error": Figure("Mean corruption error",
        "mean over corruptions and severities of the share of images whose class is not predicted",
        "share", "lower"),
    "mce": Figure("mCE", "corruption errors relative to those of a reference, mean over the "
        "corruptions; 100 %: as the reference", "share", "lower"),
    "relative_mce": Figure("Relative mCE",
        "rises of the error by corruption relative to those of a reference", "share", "lower"),
    "ece": Figure("Calibration error",
        "mean distance between confidence and accuracy (expected calibration error, 15 bins)",
        "number", "lower"),
    "recall_at_k": Figure("Recall at k",
        "share of queries with an image of their class among the k nearest", "share", "higher"),
    "mean_average_precision": Figure("Mean average precision",
        "of the ranking of all other images by their cosine to a query", "share", "higher"),
    "nmi": Figure("NMI", "mutual information of clusters and classes, normalized; 0: unrelated",
        "share", "higher"),
    "ari": Figure("ARI", "adjusted Rand index of clusters and classes; 0: as by chance", "share",
        "higher"),
    "cluster_accuracy": Figure("Cluster accuracy",
        "share of images whose cluster, matched with one class each, names their class", "share",
        "higher"),
    "rankme": Figure("RankMe", "number of directions that the features use", "number", "higher"),
    "alignment": Figure("Alignment", "mean squared distance between two views of one image",
        "number", "lower"),
    "uniformity": Figure("Uniformity", "lower: the vectors cover the sphere more evenly",
        "number", "lower"),
    "AP": Figure("AP", "COCO's average precision, mean over the classes and over the IoU "
        "thresholds from 0.5 to 0.95", "share", "higher"),
    "AP50": Figure("AP50", "COCO's average precision at an IoU of 0.5, mean over the classes",
        "share", "higher"),
    "AP75": Figure("AP75", "COCO's average precision at an IoU of 0.75, mean over the classes",
        "share", "higher"),
    "VOC AP50, 11 points": Figure("VOC AP50, 11 points",
        "average precision at an IoU of 0.5, as PASCAL VOC 2007 has it: the precision at 11 "
        "recalls", "share", "higher"),
    "VOC AP50, area": Figure("VOC AP50, area",
        "average precision at an IoU of 0.5, as PASCAL VOC has it from 2010 on: the area under the "
        "curve", "share", "higher"),
    "mIoU": Figure("Mean IoU", "intersection over union of the pixels, mean over the classes",
        "share", "higher"),
    "agreement": Figure("Agreement",
        "share of test images on which the student gives the teacher's class", "share", "higher"),
    "instance_accuracy": Figure("Instance accuracy",
        "share of images whose two views are nearest neighbors", "share", "higher"),
}  # fmt: skip
"""Every metric of our own protocols. One that is not here is shown by its name, as a number."""


def metric_of(name: str) -> Figure:
    """The words of a metric; those of an unknown one are its name.

    >>> metric_of("auroc").better, metric_of("my_metric").label
    ('higher', 'My metric')
    """
    return METRICS.get(name) or Figure(name.replace("_", " ").capitalize(), name)


def headline_misfit(
    headline: Mapping[str, Any], layer: Any, metric: Any, setting: Mapping[str, Any]
) -> tuple[bool, ...]:
    """How far a result is from the one that represents its protocol; the smallest is the nearest.

    >>> headline = {"metric": "accuracy", "layer": "h", "k": 20}
    >>> headline_misfit(headline, "h", "accuracy", {"k": 1}) < headline_misfit(
    ...     headline, "z", "accuracy", {"k": 20})
    True
    """
    others = {key: value for key, value in headline.items() if key not in ("metric", "layer")}
    return (
        metric != headline.get("metric", "accuracy"), layer != headline.get("layer", "h"),
        *(setting.get(key) != value for key, value in others.items()),
    )  # fmt: skip


def difference_in_words(metric: str, difference: float) -> str:
    """A difference of two values of a metric: of shares in points, of others as a number.

    >>> difference_in_words("accuracy", -0.021), difference_in_words("rankme", 3.25)
    ('2.1 points below', '3.25 above')
    >>> difference_in_words("accuracy", 0.0001)
    '0.01 points above'
    """
    if difference == 0:
        return "equal to"
    side = "above" if difference > 0 else "below"
    size = abs(difference)
    if metric_of(metric).format == "share":
        points = 100 * size
        return f"{points:.1f} points {side}" if points >= 0.1 else f"{points:.2g} points {side}"
    return f"{size:.3g} {side}"


def paired_in_words(test: Mapping[str, Any]) -> str:
    """The p value of a paired test with what it is; of several tests that of Holm's procedure.

    >>> paired_in_words({"p": 0.003, "images": 10_000})
    'p = 0.003 (paired permutation test on 10,000 images)'
    >>> paired_in_words({"p": 0.003, "p_holm": 0.006, "tests": 2, "images": 10_000})
    'p = 0.006 (paired permutation test on 10,000 images, Holm over 2 tests)'
    """
    p, over = holm_of(test)
    how = f"paired permutation test on {plural(int(test['images']), 'image')}"
    return f"{p_in_words(p)} ({how}{over and f', {over}'})"


def holm_of(test: Mapping[str, Any]) -> tuple[float, str]:
    """(the p value that a test is said with, by which correction in words, "" for none).

    >>> holm_of({"p": 0.003, "p_holm": 0.006, "tests": 2}), holm_of({"p": 0.003})
    ((0.006, 'Holm over 2 tests'), (0.003, ''))
    """
    if "p_holm" not in test:
        return test["p"], ""
    return test["p_holm"], f"Holm over {test['tests']} tests"


def p_in_words(p: float) -> str:
    """A p value; below 0.001 as such.

    >>> p_in_words(0.0312), p_in_words(1e-9), p_in_words(1.0)
    ('p = 0.031', 'p < 0.001', 'p = 1')
    """
    return "p < 0.001" if p < MIN_P else f"p = {p_digits(p)}"


def p_digits(p: float, level: float = LEVEL) -> str:
    """A p value with two digits; with more where two would round it to ``level``.

    >>> p_digits(0.0312), p_digits(0.0496), p_digits(0.02498, level=0.025)
    ('0.031', '0.0496', '0.02498')
    """
    return f"{p:.{4 if round(p, 3) == level else 2}g}"

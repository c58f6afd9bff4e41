"""The health figures of a run and the labels of its diagnosis: names and explanations, no torch.

Diagnosis computes the figures, checks and reports show them; all read their words here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: a short label, a sentence for a reader, its format and its better direction."""

    label: str
    explanation: str
    format: Literal["share", "cosine", "number", "count"] = "number"
    better: Literal["higher", "lower", ""] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisLabel:
    """What a label means, the exit code of the command line, and the kind for a color."""

    meaning: str
    exit_code: int
    kind: Literal["good", "warning", "bad", "open"]


# Measured at every report. Key in metrics.jsonl -> figure.
FIGURES: dict[str, Figure] = {
    "instance_accuracy_z": Figure(
        label="Instance accuracy of z",
        explanation="share of images whose two views are nearest neighbors by embeddings z",
        format="share",
        better="higher",
    ),
    "instance_accuracy_h": Figure(
        label="Instance accuracy of h",
        explanation="share of images whose two views are nearest neighbors by features h",
        format="share",
        better="higher",
    ),
    "loss": Figure(
        label="Held-out loss",
        explanation="loss of two views of all held-out images in one batch",
        better="lower",
    ),
    "feature_std_z": Figure(
        label="Feature std of z",
        explanation="0: all embeddings are equal; 1: their mean is zero",
    ),
    "feature_std_h": Figure(
        label="Feature std of h",
        explanation="0: all features are equal; 1: their mean is zero",
    ),
    "rank_z": Figure(
        label="Effective rank of z",
        explanation="number of directions that the embeddings use (RankMe)",
        better="higher",
    ),
    "rank_h": Figure(
        label="Effective rank of h",
        explanation="number of directions that the features use (RankMe)",
        better="higher",
    ),
    "alignment": Figure(
        label="Alignment",
        explanation="mean squared distance between two views of one image",
        better="lower",
    ),
    "uniformity": Figure(
        label="Uniformity",
        explanation="lower: the embeddings cover the sphere more evenly",
        better="lower",
    ),
    "mean_positive_similarity": Figure(
        label="Mean positive similarity",
        explanation="mean cosine of z between two views of one image",
        format="cosine",
        better="higher",
    ),
    "mean_negative_similarity": Figure(
        label="Mean negative similarity",
        explanation="mean cosine of z between views of different images",
        format="cosine",
        better="lower",
    ),
}

# Properties of the sample and of the objective, in the same lines; training does not change them.
REFERENCE_FIGURES: dict[str, Figure] = {
    "images": Figure(
        label="Images", explanation="number of held-out images in the sample", format="count"
    ),
    "width_h": Figure(label="Width of h", explanation="columns of h", format="count"),
    "width_z": Figure(label="Width of z", explanation="columns of z", format="count"),
    "chance_level": Figure(label="chance level", explanation="loss of identical embeddings"),
    "random_loss": Figure(
        label="random embeddings", explanation="loss of random, unrelated embeddings"
    ),
    "lower_bound": Figure(
        label="lower bound",
        explanation="loss of random embeddings whose positives are identical: an estimate of the "
        "lowest loss in practice",
    ),
    "identical_views": Figure(
        label="identical views",
        explanation="share of images whose two views have the same pixels",
        format="share",
    ),
    "color_instance_accuracy": Figure(
        label="by color histograms",
        explanation="instance accuracy of color histograms alone",
        format="share",
    ),
    "thumbnail_instance_accuracy": Figure(
        label="by 8 x 8 thumbnails",
        explanation="instance accuracy of 8 x 8 thumbnails alone",
        format="share",
    ),
}

DIAGNOSES: dict[str, DiagnosisLabel] = {
    "learning": DiagnosisLabel(
        meaning="better than the untrained network", exit_code=0, kind="good"
    ),
    "too early": DiagnosisLabel(
        meaning="fewer than 200 steps, or still improving in the first half of the run",
        exit_code=0,
        kind="open",
    ),
    "at chance": DiagnosisLabel(
        meaning="embeddings differ, but views of one image do not match", exit_code=3, kind="bad"
    ),
    "collapsed": DiagnosisLabel(
        meaning="every image has the same embedding, or the network diverged",
        exit_code=4,
        kind="bad",
    ),
    "dimensional collapse": DiagnosisLabel(
        meaning="the embeddings or features use few directions", exit_code=5, kind="warning"
    ),
    "unchanged": DiagnosisLabel(
        meaning="no better than the untrained network", exit_code=6, kind="bad"
    ),
    "shortcut": DiagnosisLabel(
        meaning="simple cues in the pixels are enough to match the views",
        exit_code=7,
        kind="warning",
    ),
    # Of fine-tuning:
    "learned": DiagnosisLabel(
        meaning="better than the linear probe and than training from scratch",
        exit_code=0,
        kind="good",
    ),
    "overfitted": DiagnosisLabel(
        meaning="held-out accuracy fell while training accuracy rose", exit_code=8, kind="warning"
    ),
    "no better than the linear probe": DiagnosisLabel(
        meaning="a linear classifier on the frozen encoder does as well",
        exit_code=9,
        kind="warning",
    ),
    "no better than from scratch": DiagnosisLabel(
        meaning="the same network from random weights does as well", exit_code=10, kind="warning"
    ),
}

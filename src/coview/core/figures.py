"""The health figures of a run and the labels of its diagnosis: names and explanations, no torch.

Diagnosis computes the figures, checks and reports show them; all read their words here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a short label, a sentence for a reader, its format and its better direction."""

    label: str
    explanation: str
    format: Literal["share", "cosine", "number", "count"] = "number"
    better: Literal["higher", "lower", ""] = ""


@dataclass(frozen=True, slots=True)
class DiagnosisLabel:
    """What a label means, the exit code of the command line, and the kind for a color."""

    meaning: str
    exit_code: int
    kind: Literal["good", "warning", "bad", "open"]


# Measured at every report. Key in metrics.jsonl -> figure.
FIGURES: dict[str, Figure] = {
    "instance_accuracy_z": Figure("Instance accuracy of z",
        "share of images whose two views are nearest neighbors by embeddings z", "share", "higher"),
    "instance_accuracy_h": Figure("Instance accuracy of h",
        "share of images whose two views are nearest neighbors by features h", "share", "higher"),
    "piece_accuracy_h": Figure("Images found",
        "share of images of which one gray piece finds another by features h", "share", "higher"),
    "loss": Figure("Way from chance to the lower bound",
        "of the loss on held-out images; 0 %: at chance level, 100 %: at the lower bound",
        "share", "higher"),
    "feature_std_z": Figure("Feature std of z",
        "0: all embeddings are equal; 1: their mean is zero"),
    "feature_std_h": Figure("Feature std of h", "0: all features are equal; 1: their mean is zero"),
    "rank_z": Figure("Effective rank of z",
        "number of directions that the embeddings use (RankMe); near 1 in a collapse, a healthy "
        "training may lower it"),
    "rank_h": Figure("Effective rank of h",
        "number of directions that the features use (RankMe); near 1 in a collapse, a healthy "
        "training may lower it"),
    "alignment": Figure("Alignment",
        "mean squared distance between two views of one image", "number", "lower"),
    "uniformity": Figure("Uniformity",
        "lower: the embeddings cover the sphere more evenly", "number", "lower"),
    "mean_positive_similarity": Figure("Mean positive similarity",
        "mean cosine of z between two views of one image", "cosine", "higher"),
    "mean_negative_similarity": Figure("Mean negative similarity",
        "mean cosine of z between views of different images", "cosine", "lower"),
}  # fmt: skip

# Properties of the sample and of the objective, in the same lines; training does not change them.
REFERENCE_FIGURES: dict[str, Figure] = {
    "images": Figure("Images", "number of held-out images in the sample", "count"),
    "width_h": Figure("Width of h", "columns of h", "count"),
    "width_z": Figure("Width of z", "columns of z", "count"),
    "chance_level": Figure("chance level", "loss of identical embeddings"),
    "random_loss": Figure("random embeddings", "loss of random, unrelated embeddings"),
    "lower_bound": Figure("lower bound",
        "loss of random embeddings whose positives are identical: an estimate of the lowest "
        "loss in practice"),
    "identical_views": Figure("identical views",
        "share of images whose two views have the same pixels", "share"),
    "color_instance_accuracy": Figure("by color histograms",
        "instance accuracy of color histograms alone", "share"),
    "thumbnail_instance_accuracy": Figure("by 8 x 8 thumbnails",
        "instance accuracy of 8 x 8 thumbnails alone", "share"),
    "piece_accuracy_pixels": Figure("by raw pixels", "images found by 8 x 8 thumbnails", "share"),
    "piece_accuracy_levels": Figure("by brightness",
        "images found by histograms of their gray levels", "share"),
    "copied_images": Figure("Copies",
        "share of the sample that equals another image of it, or a training image", "share"),
}  # fmt: skip

START_WORDS = {False: "untrained", True: "at the start"}
"""What figures of step 0 are called, by whether the run began with trained weights."""

DIAGNOSES: dict[str, DiagnosisLabel] = {
    "learning": DiagnosisLabel("better than before training", 0, "good"),
    "too early": DiagnosisLabel(
        "fewer than 200 steps, or still improving in the first half of the run", 0, "open"),
    "at chance": DiagnosisLabel("embeddings differ, but views of one image do not match", 3, "bad"),
    "collapsed": DiagnosisLabel(
        "every image has the same embedding, or the network diverged", 4, "bad"),
    "dimensional collapse": DiagnosisLabel(
        "the embeddings or features use few directions", 5, "warning"),
    "unusable data": DiagnosisLabel(
        "the images are copies of each other, or all have one label", 12, "bad"),
    "no better than pixels": DiagnosisLabel(
        "better than before training, but simple functions of the pixels do as well", 11,
        "warning"),
    "unchanged": DiagnosisLabel("no better than before training", 6, "bad"),
    "shortcut": DiagnosisLabel(
        "simple cues in the pixels are enough to match the views", 7, "warning"),
    # Of fine-tuning:
    "learned": DiagnosisLabel("better than the linear probe and than from scratch", 0, "good"),
    "overfitted": DiagnosisLabel(
        "accuracy on test images fell while that on training images rose", 8, "warning"),
    "no better than the linear probe": DiagnosisLabel(
        "a linear classifier on the frozen encoder does as well", 9, "warning"),
    "no better than from scratch": DiagnosisLabel(
        "the same network from random weights does as well", 10, "warning"),
}  # fmt: skip

"""Networks on an encoder's maps: boxes, outlines, and the class of every pixel."""

from coview.dense.learner import DenseLearner, DetectionLearner, SegmentationLearner, dense_learner
from coview.dense.method import DenseMethod, Detector, Segmenter

__all__ = [
    "DenseLearner", "DenseMethod", "DetectionLearner", "Detector", "SegmentationLearner",
    "Segmenter", "dense_learner",
]  # fmt: skip

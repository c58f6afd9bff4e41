"""Networks on an encoder's maps: boxes, outlines, and the class of every pixel.

Here are the values of a recipe. ``coview.dense.learner`` has the networks: it needs torchvision,
which is slow to import.
"""

from coview.dense.method import DenseMethod, Detector, Segmenter

__all__ = ["DenseMethod", "Detector", "Segmenter"]

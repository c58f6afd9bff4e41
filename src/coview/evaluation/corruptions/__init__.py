"""The corruptions of ImageNet-C and CIFAR-10-C, rendered on the fly."""

from coview.evaluation.corruptions.parameters import SCALES, SEVERITIES, Scale, scale_of
from coview.evaluation.corruptions.render import CORRUPTIONS, NOT_PUBLISHED, corrupt

__all__ = ["CORRUPTIONS", "NOT_PUBLISHED", "SCALES", "SEVERITIES", "Scale", "corrupt", "scale_of"]

"""Images and settings of a whole run that takes seconds."""

import numpy as np

SMALL = {"size": 8, "encoder": "resnet18/8-small", "batch_size": 32, "device": "cpu", "workers": 1}


def pictures(count=160, size=12, seed=0):
    """Coarse colored noise in three classes that differ by their brightest corner."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    coarse = generator.integers(0, 200, (count, 3, 3, 3), dtype=np.uint8)
    coarse[np.arange(count), labels, labels] = 255
    return coarse.repeat(size // 3, axis=1).repeat(size // 3, axis=2), labels.astype(np.int64)

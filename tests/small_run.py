"""Images and settings of a whole run that takes seconds."""

import os

import numpy as np
import pytest

from coview.encoders import export_encoder, resnet

SMALL = {"size": 8, "encoder": "resnet18/8-small", "batch_size": 32, "device": "cpu", "workers": 1}


def pictures(count=160, size=12, seed=0):
    """Coarse colored noise in three classes that differ by their brightest corner."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    coarse = generator.integers(0, 200, (count, 3, 3, 3), dtype=np.uint8)
    coarse[np.arange(count), labels, labels] = 255
    return coarse.repeat(size // 3, axis=1).repeat(size // 3, axis=2), labels.astype(np.int64)


def odd_file(folder):
    """A new file whose name is no UTF-8. Skips the test where the file system has no such names."""
    path = folder / os.fsdecode(b"\xff.png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system holds UTF-8 names alone")
    return path


def small_export(folder, seed=0):
    """The exported folder of an untrained encoder for images of 16 px."""
    network = resnet(10, width=0.125, stem="small", seed=seed)
    export_encoder(network, folder, image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)
    return folder

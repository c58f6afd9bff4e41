"""Where views for a network on a GPU are rendered: one setting for training and evaluation."""

from __future__ import annotations

import os

import torch

from coview.core.errors import UnknownName

RENDER_ON = "COVIEW_RENDER_ON"
CPU, DEVICE = "cpu", "device"


def render_device(device: torch.device | str) -> torch.device:
    """The device that renders the views of a network on ``device``.

    It is the CPU, whose fused kernel renders in threads ahead of the network and sends the views
    through page-locked memory. With the environment variable COVIEW_RENDER_ON=device it is
    ``device`` itself, by the batched torch arithmetic of the specification: it needs more memory
    there, and rounds differently. The choice is read when a run, an evaluation or an export of
    vectors begins. Raises UnknownName for another word.

    >>> render_device("cuda:1")
    device(type='cpu')
    """
    word = os.environ.get(RENDER_ON, CPU)
    if word not in (CPU, DEVICE):
        raise UnknownName(f"value of {RENDER_ON}", word, (CPU, DEVICE))
    return torch.device(device) if word == DEVICE else torch.device("cpu")

"""An imported network beside the original: the same values from the same images, at every layer."""

import torch

import coview
from coview.encoders.exchange.normalization import IMAGENET
from coview.runs.load import load_subject


def images(size, count=3):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def normalized(pixels, normalization=IMAGENET):
    if normalization is None:
        return pixels
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
    return (pixels - mean) / std


def import_content(content, folder, name="peer.pth", **options):
    """Save the content as torch does, import it, and return the folder and what was said."""
    path = folder / name
    torch.save(content, path)
    return coview.import_checkpoint(path, out=folder / "encoder", **options)


@torch.no_grad()
def assert_parity(folder, layers, size, normalization=IMAGENET):
    """``layers`` of the original network give what the imported one gives."""
    subject = load_subject(folder)
    assert set(subject.layers) == set(layers)
    pixels = images(size)
    h = subject.encoder(pixels)
    ours = {"h": h, "z": None if subject.head is None else subject.head(h)}
    for layer, original in layers.items():
        theirs = original(normalized(pixels, normalization))
        assert theirs.std() > 1e-3
        torch.testing.assert_close(ours[layer], theirs, rtol=1e-4, atol=1e-5)

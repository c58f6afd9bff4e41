"""A kill while an export is replaced leaves the old one or the new one, whole."""

import os
import shutil

import pytest
import torch

from coview.core.files import entries
from coview.encoders import export_encoder, load_encoder, resnet
from coview.encoders.exchange import whole
from coview.encoders.exchange.whole import PENDING, UNFINISHED, replacing_export


def encoder(seed):
    return resnet(10, width=0.125, stem="small", seed=seed).eval()


def replace(folder, seed):
    with replacing_export(folder) as new:
        export_encoder(encoder(seed), new, image_size=8)


def is_of(folder, seed):
    """Whether ``folder`` holds the encoder of ``seed``; raises where the export is not whole."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.equal(load_encoder(folder)(images), encoder(seed)(images))


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("steps", range(12))
def test_a_kill_leaves_one_whole_export(tmp_path, monkeypatch, steps):
    """The process is killed before each of its changes of the file system, one after the other."""
    folder = tmp_path / "encoder"
    replace(folder, 0)
    left = [steps]

    def counted(function):
        def call(*args, **options):
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for module, name in ((os, "replace"), (os, "rename"), (shutil, "copyfile")):
            patch.setattr(module, name, counted(getattr(module, name)))
        patch.setattr(whole.shutil, "rmtree", lambda *_, **__: None)
        killed = False
        try:
            replace(folder, 1)
        except KilledError:
            killed = True
    assert killed or steps >= 9
    assert is_of(folder, 0) or is_of(folder, 1)
    replace(folder, 2)
    assert is_of(folder, 2)
    assert "model.safetensors" in entries(folder)
    assert not {PENDING, UNFINISHED} & set(entries(folder))


def test_nothing_else_is_left(tmp_path):
    for seed in (0, 1):
        replace(tmp_path, seed)
    assert entries(tmp_path) == ["README.md", "config.json", "encoder.py", "model.safetensors"]


def test_an_export_that_fails_leaves_the_old_one(tmp_path):
    replace(tmp_path, 0)
    broken = encoder(1)
    with torch.no_grad():
        broken.network.conv1.weight.fill_(float("nan"))
    with pytest.raises(Exception, match="other features"), replacing_export(tmp_path) as new:
        export_encoder(broken, new, image_size=8)
    assert is_of(tmp_path, 0)
    assert entries(tmp_path) == ["README.md", "config.json", "encoder.py", "model.safetensors"]

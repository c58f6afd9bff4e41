"""Networks of the user, and networks that take images of one size."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from coview.core.errors import CoviewError, InvalidValue
from coview.encoders import EncoderSpec, export_encoder, load_encoder, parse_encoder
from coview.encoders.own import MODULES
from coview.recipes import build, change, recipe

SOURCE = """
import torch
class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU())
number = 3
def broken():
    raise OSError("no luck")
"""


class Small(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.linear = nn.Linear(3, width)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def with_encoder(encoder, size=16):
    return change(recipe("simclr-cpu"), encoder=encoder, size=size)


def test_module_of_python_is_an_encoder_of_the_width_that_a_trial_finds():
    module = Small()
    learner = build(with_encoder(module))
    assert learner.encoder.features == 6
    assert torch.equal(learner.encoder.model.linear.weight, module.linear.weight)
    assert learner.encoder.model is not module


def test_module_that_another_process_had_is_asked_for():
    made = with_encoder(Small(7))
    MODULES.clear()
    with pytest.raises(InvalidValue, match=r"Small#\w+ is a module of Python.*remember_module"):
        build(made)
    with_encoder(Small(7))  # the same shapes again
    assert build(made).encoder.features == 7


def test_file_and_name_give_the_same_weights_for_the_same_seed(file):
    made = with_encoder(f"{file}:Net")
    one, two = (build(made).encoder for _ in range(2))
    assert one.features == 5
    assert torch.equal(one.model[0].weight, two.model[0].weight)
    assert EncoderSpec.from_json(made.encoder.to_json()) == made.encoder


def test_export_of_an_own_network_loads_and_carries_its_file(file, tmp_path, monkeypatch):
    encoder = build(with_encoder(f"{file}:Net")).encoder
    folder = export_encoder(encoder, tmp_path / "encoder", image_size=16)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(load_encoder(folder)(images), encoder.eval()(images))
    assert (folder / "encoder.py").read_text() == SOURCE
    readme = (folder / "README.md").read_text()
    assert "from encoder import Net" in readme
    names = {"images": images}
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], names)
    torch.testing.assert_close(names["h"], encoder(images))  # the mean of the maps of Net


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("Nett", "no class or function 'Nett'"), ("number", "no class or function"),
     ("broken", "raises OSError: no luck")],
)  # fmt: skip
def test_name_that_gives_no_network_is_one_sentence(file, name, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        build(with_encoder(f"{file}:{name}"))


def test_file_that_has_changed_or_is_absent_or_lies_in_a_run_is_not_executed(file):
    made = with_encoder(f"{file}:Net")
    (file.parent / "run.json").write_text("{}")
    with pytest.raises(InvalidValue, match="folder of a run"):
        build(made)
    file.write_text(f"{SOURCE}#")
    with pytest.raises(InvalidValue, match="has changed"):
        build(made)
    file.unlink()
    with pytest.raises(InvalidValue, match="cannot be read"):
        build(made)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Linear(3, 4), nn.Flatten(0)])
def test_module_that_gives_no_features_is_one_sentence(module):
    with pytest.raises(CoviewError, match=r"expected features|does not take images"):
        build(with_encoder(nn.Sequential(module, nn.Flatten(0))))


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224.augreg_in21k", "timm:mixer_s16_224"])
def test_network_of_one_size_is_built_for_the_size_of_the_views(name):
    made = with_encoder(name, size=32)
    assert made.encoder.image_size == 32
    spec = made.encoder
    with torch.no_grad():
        h = spec.build().eval()(torch.zeros(2, 3, 32, 32))
    assert h.shape == (2, spec.build_on_meta().features)


def test_network_of_one_size_keeps_it_in_a_recipe_that_has_no_size_for_it():
    with pytest.raises(InvalidValue, match=r"does not take images of 32 x 32 pixels"):
        build(replace(recipe("simclr-cpu"), encoder=parse_encoder("timm:vit_tiny_patch16_224")))


def test_size_that_patches_do_not_divide_is_one_sentence():
    spec = EncoderSpec(kind="torchvision", name="vit_b_16", image_size=33)
    with pytest.raises(InvalidValue, match="cannot be built for images of 33 pixels"):
        spec.build_on_meta()

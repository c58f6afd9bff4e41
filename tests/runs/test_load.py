"""A loaded encoder takes images in every usual form, and sees in them what `embed` sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import coview
from coview.core.errors import CoviewError, InvalidValue
from coview.data import open_images
from coview.encoders import export_encoder, resnet
from coview.encoders.exchange.loading import unit_range
from coview.evaluation import Subject, extract
from coview.recipes import build, recipe
from coview.runs.load import subject_of
from coview.views import eval_view

SIZE = 16


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder, network = tmp_path_factory.mktemp("encoder"), resnet(10, width=0.125, stem="small")
    export_encoder(network, folder, image_size=SIZE, mean=(0.5,) * 3, std=(0.2,) * 3)
    return coview.load(folder)


PICTURES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
BATCH = torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize(
    "form",
    [
        BATCH.double(), BATCH.numpy(), list(BATCH), tuple(BATCH), BATCH.permute(0, 2, 3, 1),
        torch.from_numpy(PICTURES), torch.from_numpy(PICTURES).permute(0, 3, 1, 2), PICTURES,
        list(PICTURES), [Image.fromarray(each) for each in PICTURES],
        [PICTURES[0], Image.fromarray(PICTURES[1])], BATCH.clone().requires_grad_(),
    ],
)  # fmt: skip
def test_every_form_of_a_batch_gives_the_same_features(encoder, form):
    torch.testing.assert_close(encoder(form), encoder(BATCH), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shorter_floats_are_taken(encoder, dtype):
    torch.testing.assert_close(encoder(BATCH.to(dtype)), encoder(BATCH), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("one", [BATCH[0], PICTURES[0], Image.fromarray(PICTURES[0])])
def test_one_image_is_a_batch_of_one(encoder, one):
    torch.testing.assert_close(encoder(one), encoder(BATCH)[:1], rtol=1e-4, atol=1e-5)


def test_transform_sees_what_embed_sees(encoder, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    Image.fromarray(pixels).save(path)
    subject = Subject(name="encoder", encoder=encoder, view=eval_view(SIZE))
    expected = extract(subject, open_images(tmp_path, short_side=256)).layers["h"]
    with Image.open(path) as picture:
        for form in (path, str(path), picture, pixels):
            torch.testing.assert_close(encoder(encoder.transform(form)[None]), expected)
    torch.testing.assert_close(encoder([path, str(path)]), expected.repeat(2, 1))


def test_transform_crops_and_resizes_to_the_size_of_the_encoder(encoder):
    assert encoder.image_size == SIZE
    assert encoder.transform(Image.new("L", (7, 90))).shape == (3, SIZE, SIZE)


def test_floats_up_to_255_are_recognized_in_each_batch(encoder):
    for _ in range(2):
        with pytest.warns(UserWarning, match="are divided by 255"):
            torch.testing.assert_close(encoder(255 * BATCH), encoder(BATCH), rtol=1e-4, atol=1e-5)
    mixed = [unit_range(255 * BATCH, say=False), unit_range(BATCH, say=False)]
    torch.testing.assert_close(mixed[0], mixed[1], rtol=0, atol=1e-6)
    assert torch.equal(mixed[1], BATCH)


@pytest.mark.parametrize("images", [(BATCH - 0.5) / 0.2, BATCH * 2**16, -BATCH])
def test_values_of_no_known_range_are_refused(encoder, images):
    with pytest.raises(InvalidValue, match=r"expects \[0, 1\] and normalizes by itself"):
        encoder(images)


@pytest.mark.parametrize(
    "images",
    [
        None, 3, [], "nowhere.png", torch.zeros(2, 4, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.int64),
        torch.zeros(3), np.zeros((8, 8)) > 0, [None], ["nowhere.png"], {"image": BATCH},
        torch.zeros(2, 3, 8, 8, dtype=torch.complex64),
    ],
)  # fmt: skip
def test_what_is_no_image_is_one_sentence(encoder, images):
    with pytest.raises(CoviewError):
        encoder(images)


@pytest.mark.parametrize(("name", "logits"), [("supervised-cpu", "z"), ("simclr-cpu", "")])
def test_the_logits_of_a_classifier_are_named(name, logits):
    chosen = recipe(name)
    run = SimpleNamespace(recipe=chosen, description={"data": {"class_names": ["ant", "bee"]}})
    subject = subject_of(name, build(chosen), run)
    assert (subject.logits, subject.class_names) == (logits, ("ant", "bee") if logits else ())
    assert subject.views == chosen.method.views


def test_of_the_views_of_a_training_the_first_two_count():
    chosen = recipe("logo-moco-cpu")
    run = SimpleNamespace(recipe=chosen, description={})
    assert subject_of("a", build(chosen), run).views.views == chosen.method.views.views[:2]
    one = recipe("finetune-cpu")
    run = SimpleNamespace(recipe=one, description={"data": {"class_names": ["ant"]}})
    assert subject_of("a", build(one), run).views is None

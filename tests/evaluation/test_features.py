import threading

import numpy as np
import pytest
import torch
from torch import nn
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.memory import DoesNotFit
from coview.core.tensors import weights_fingerprint
from coview.encoders import resnet
from coview.evaluation import Subject, embed_views, extract, knn_monitor, pixel_subject
from coview.evaluation.features import vectors_of_parts
from coview.heads import HeadSpec
from coview.views import ViewPlan, ViewSpec, eval_view, views_of
from short_of_memory import room_for

VIEW = eval_view(8)


def subject(encoder=None, head=None):
    return Subject(name="small", encoder=encoder or Small(), head=head, view=VIEW)


def test_extract_gives_the_frozen_outputs_in_the_order_of_the_store():
    store, encoder, head = colored(11), Small(), small_head()
    features = extract(subject(encoder, head), store, batch_size=4)
    images = views_of(store, np.arange(11), ViewPlan(views=(VIEW,)), seed=0, epoch=0)[0]
    with torch.no_grad():
        h = encoder.eval()(images)
        z = head.eval()(h)
    assert torch.allclose(features.layers["h"], h, atol=1e-6)
    assert torch.allclose(features.layers["z"], z, atol=1e-6)
    assert features.ids.tolist() == store.ids.tolist()
    assert features.labels.tolist() == store.labels.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
def test_extract_does_not_depend_on_the_batch(batch_size):
    store, small = colored(11), subject()
    one, two = (extract(small, store, batch_size=b).layers["h"] for b in (batch_size, 5))
    assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("encoder", [nn.Flatten(), Small(), resnet(18, width=0.25, stem="small")])
def test_images_that_do_not_fit_together_have_the_same_features_in_parts(encoder):
    """The same bits where each number is computed alone; sums of products may have another order."""
    store, plain = colored(11), subject(encoder)

    def measured():
        of_parts = [store.subset(np.arange(8)), store.subset(np.arange(8, 11))]
        yield extract(plain, store, workers=2).layers["h"]
        yield torch.cat([found["h"] for _, found in vectors_of_parts(plain, of_parts)])
        yield torch.tensor(knn_monitor(encoder, store, store, VIEW))

    whole = list(measured())
    with room_for(3, encoder) as given:
        parts = list(measured())
    assert given == [11, 5, *[2] * 5, 1, 8, 4, 2, 2, 2, 2, 2, 1] + 2 * [11, 5, *[2] * 5, 1]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
        assert torch.equal(one, other) or not isinstance(encoder, nn.Flatten)


def test_an_image_that_does_not_fit_is_one_sentence():
    encoder = Small()
    with room_for(0, encoder) as given, pytest.raises(DoesNotFit, match="One image does not fit"):
        extract(subject(encoder), colored(11), batch_size=4)
    assert given == [4, 2, 1]


@pytest.mark.parametrize("workers", [1, 2, 7, None])
def test_extract_gives_the_same_bits_with_any_number_of_threads(workers):
    store, small = colored(41), subject(head=small_head())
    one, two = (extract(small, store, batch_size=4, workers=w) for w in (0, workers))
    assert all(torch.equal(one.layers[layer], two.layers[layer]) for layer in ("h", "z"))


@pytest.mark.parametrize("workers", [0, 2])
def test_embed_views_gives_every_view_as_it_is_rendered(workers):
    store, plan = colored(11), ViewPlan(views=(ViewSpec(size=8), ViewSpec(size=6)))
    outputs = embed_views(
        lambda images: (images, images.mean((1, 2, 3))), store, plan, seed=3, epoch=2,
        batch_size=4, workers=workers,
    )  # fmt: skip
    views = views_of(store, np.arange(11), plan, seed=3, epoch=2)
    for (images, means), view in zip(outputs, views, strict=True):
        assert torch.equal(images, view)
        assert torch.allclose(means, view.mean((1, 2, 3)))


def test_embed_views_raises_the_error_of_the_network_and_ends_its_threads():
    def embed(images):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        embed_views(embed, colored(20), ViewPlan(views=(VIEW,)), batch_size=2, workers=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("coview-ahead")]


def test_extract_restores_each_part_to_its_own_mode():
    encoder, head = Small().train(), small_head().eval()
    encoder.norm.eval()
    extract(subject(encoder, head), colored(6))
    assert encoder.training
    assert encoder.convolution.training
    assert not encoder.norm.training
    assert not any(part.training for part in head.modules())


def test_extract_restores_the_mode_after_an_error():
    encoder = Small().train()
    encoder.convolution = torch.nn.Conv2d(5, 6, 3)
    with pytest.raises(RuntimeError):
        extract(subject(encoder), colored(6))
    assert encoder.norm.training
    assert torch.is_grad_enabled()


def test_extract_changes_no_parameter_and_no_buffer():
    encoder, head = Small().train(), small_head().train()
    before = weights_fingerprint(encoder), weights_fingerprint(head)
    features = extract(subject(encoder, head), colored(9))
    assert (weights_fingerprint(encoder), weights_fingerprint(head)) == before
    assert not features.layers["z"].requires_grad


def test_extract_layers_follow_the_head():
    store, whole = colored(4), subject(head=small_head())
    assert tuple(extract(subject(), store).layers) == ("h",)
    assert tuple(extract(whole, store).layers) == ("h", "z")
    assert tuple(extract(whole, store, layers=("z",)).layers) == ("z",)


def test_extract_refuses_unknown_and_impossible_layers():
    with pytest.raises(UnknownName, match="layer"):
        extract(subject(), colored(4), layers=("g",))
    with pytest.raises(InvalidValue, match="head"):
        extract(subject(), colored(4), layers=("z",))


def test_extract_refuses_an_empty_store_and_an_empty_batch():
    store = colored(4)
    with pytest.raises(DataError, match="no images"):
        extract(subject(), store.subset(np.arange(0)))
    with pytest.raises(InvalidValue, match="batch_size"):
        extract(subject(), store, batch_size=0)


def test_extract_refuses_a_diverged_encoder():
    encoder = Small()
    encoder.convolution.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InvalidValue, match="NaN"):
        extract(subject(encoder), colored(4))


def test_pixel_features_of_images_of_that_size_are_the_pixels():
    store = colored(5, side=8)
    pixels = extract(pixel_subject(8), store).layers["pixels"]
    expected = torch.stack(
        [torch.from_numpy(store.image(row).copy()).permute(2, 0, 1) for row in range(5)]
    )
    assert torch.allclose(pixels, expected.flatten(1) / 255, atol=1e-6)


def test_the_embedding_of_a_head_without_layers_is_h():
    head = HeadSpec(layers=0).build(192)
    subject = Subject(name="a", encoder=nn.Flatten(), head=head, view=eval_view(8))
    h, z = subject.outputs(torch.rand(2, 3, 8, 8), subject.layers)
    assert torch.equal(h, z)

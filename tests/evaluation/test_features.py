import numpy as np
import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.evaluation import extract, pixel_features, weights_fingerprint
from coview.views import ViewPlan, eval_view, views_of

VIEW = eval_view(8)


def test_extract_gives_the_frozen_outputs_in_the_order_of_the_store():
    store, encoder, head = colored(11), Small(), small_head()
    found = extract(encoder, head, store, VIEW, batch=4)
    images = views_of(store, np.arange(11), ViewPlan(views=(VIEW,)), seed=0, epoch=0)[0]
    with torch.no_grad():
        h = encoder.eval()(images)
        z = head.eval()(h)
    assert torch.allclose(found.taps["h"], h, atol=1e-6)
    assert torch.allclose(found.taps["z"], z, atol=1e-6)
    assert found.ids.tolist() == store.ids.tolist()
    assert found.labels.tolist() == store.labels.tolist()


@pytest.mark.parametrize("batch", [1, 3, 11, 64])
def test_extract_does_not_depend_on_the_batch(batch):
    store, encoder = colored(11), Small()
    one, two = (extract(encoder, None, store, VIEW, batch=b).taps["h"] for b in (batch, 5))
    assert torch.allclose(one, two, atol=1e-6)


def test_extract_restores_each_part_to_its_own_mode():
    encoder, head = Small().train(), small_head().eval()
    encoder.norm.eval()
    extract(encoder, head, colored(6), VIEW)
    assert encoder.training
    assert encoder.convolution.training
    assert not encoder.norm.training
    assert not any(part.training for part in head.modules())


def test_extract_restores_the_mode_after_an_error():
    encoder = Small().train()
    encoder.convolution = torch.nn.Conv2d(5, 6, 3)
    with pytest.raises(RuntimeError):
        extract(encoder, None, colored(6), VIEW)
    assert encoder.norm.training
    assert torch.is_grad_enabled()


def test_extract_changes_no_parameter_and_no_buffer():
    encoder, head = Small().train(), small_head().train()
    before = weights_fingerprint(encoder), weights_fingerprint(head)
    found = extract(encoder, head, colored(9), VIEW)
    assert (weights_fingerprint(encoder), weights_fingerprint(head)) == before
    assert not found.taps["z"].requires_grad


def test_weights_fingerprint_sees_a_buffer_change():
    encoder = Small()
    before = weights_fingerprint(encoder)
    encoder.norm.running_mean[0] += 1e-3
    assert weights_fingerprint(encoder) != before


def test_extract_taps_follow_the_head():
    store = colored(4)
    assert tuple(extract(Small(), None, store, VIEW).taps) == ("h",)
    assert tuple(extract(Small(), small_head(), store, VIEW).taps) == ("h", "z")
    assert tuple(extract(Small(), small_head(), store, VIEW, taps=("z",)).taps) == ("z",)


def test_extract_refuses_unknown_and_impossible_taps():
    with pytest.raises(UnknownName, match="tap"):
        extract(Small(), None, colored(4), VIEW, taps=("g",))
    with pytest.raises(InvalidValue, match="head"):
        extract(Small(), None, colored(4), VIEW, taps=("z",))


def test_extract_refuses_an_empty_store_and_an_empty_batch():
    store = colored(4)
    with pytest.raises(DataError, match="no images"):
        extract(Small(), None, store.subset(np.arange(0)), VIEW)
    with pytest.raises(InvalidValue, match="batch"):
        extract(Small(), None, store, VIEW, batch=0)


def test_extract_refuses_a_diverged_encoder():
    encoder = Small()
    encoder.convolution.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InvalidValue, match="NaN"):
        extract(encoder, None, colored(4), VIEW)


def test_pixel_features_of_images_of_that_size_are_the_pixels():
    store = colored(5, side=8)
    found = pixel_features(store, 8).taps["pixels"]
    expected = torch.stack(
        [torch.from_numpy(store.image(row).copy()).permute(2, 0, 1) for row in range(5)]
    )
    assert torch.allclose(found, expected.flatten(1) / 255, atol=1e-6)

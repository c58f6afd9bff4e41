"""Images that are in memory already."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import picture
from PIL import Image

from coview.core.errors import DataError, InvalidValue
from coview.core.images import store_from_arrays
from coview.data import open_images

COLOR = np.stack([picture(8, 6, seed) for seed in range(4)])


def test_arrays_of_color_images_are_kept() -> None:
    store = open_images(COLOR)
    assert store.names == [f"arrays#{row}" for row in range(4)]
    assert store.labels is None
    np.testing.assert_array_equal(np.stack([store.image(row) for row in range(4)]), COLOR)


def test_arrays_of_gray_images_get_three_channels() -> None:
    store = open_images(COLOR[..., 1])
    np.testing.assert_array_equal(store.image(2), np.stack([COLOR[2, ..., 1]] * 3, axis=-1))


@pytest.mark.parametrize("kind", [list, tuple])
def test_arrays_in_a_list_may_differ_in_size(kind: type) -> None:
    images = kind([picture(5, 7), picture(9, 3), picture(4, 4)[..., 0]])
    store = open_images(images)
    assert store.heights.tolist() == [5, 9, 4]
    np.testing.assert_array_equal(store.image(1), images[1])


def test_arrays_two_images_in_a_tuple_are_not_labels() -> None:
    assert len(open_images((picture(5, 7), picture(5, 7)))) == 2


@pytest.mark.parametrize("images", [COLOR, list(COLOR), COLOR[..., 0]], ids=str)
def test_arrays_with_labels_keep_them(images: object) -> None:
    store = open_images((images, np.array([2, 0, -1, 0])))
    assert store.labels.tolist() == [2, 0, -1, 0]
    assert store.labels.dtype == np.int64
    assert store.class_names == ("0", "1", "2")


def test_labels_that_are_years_or_identifiers_are_names() -> None:
    """And no 2,022 classes, of which three occur."""
    images = np.zeros((4, 4, 4, 3), np.uint8)
    store = open_images((images, [2021, 2019, 2020, 2019]), labels_from="auto")
    assert store.class_names == ("2019", "2020", "2021")
    assert store.labels.tolist() == [2, 0, 1, 0]
    some = open_images((images, [0, 3, 99, 3]), labels_from="auto")
    assert len(some.class_names) == 100


def test_arrays_with_names_as_labels_number_them() -> None:
    store = open_images((COLOR, ["eel", "cat", "eel", "dog"]))
    assert store.class_names == ("cat", "dog", "eel")
    assert store.labels.tolist() == [2, 0, 2, 1]


def test_arrays_that_are_not_contiguous_are_read_right() -> None:
    flipped = COLOR[:, ::-1, ::2]
    np.testing.assert_array_equal(open_images(flipped).image(3), flipped[3])


def test_arrays_are_resized_to_the_short_side() -> None:
    store = open_images(np.stack([picture(40, 60)] * 2), short_side=20)
    assert (store.heights[0], store.widths[0]) == (20, 30)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64])
def test_arrays_of_another_type_are_refused(dtype: type) -> None:
    with pytest.raises(InvalidValue, match=f"Image 0 is of type {np.dtype(dtype)}.*`white`"):
        open_images(COLOR.astype(dtype))


def test_arrays_of_booleans_are_refused_even_with_white() -> None:
    with pytest.raises(InvalidValue, match="of type bool"):
        open_images(COLOR > 3, white=1.0)


def test_arrays_of_16_bits_are_scaled_by_the_stated_white() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    image = open_images(ramp, white=65535).image(0)
    np.testing.assert_array_equal(image[..., 0], np.rint(ramp[0] / 257))


def test_arrays_of_floats_are_scaled_by_the_stated_white() -> None:
    images = COLOR.astype(np.float32) / 255
    np.testing.assert_array_equal(open_images(images, white=1.0).image(1), COLOR[1])


def test_arrays_above_the_stated_white_are_not_clipped() -> None:
    with pytest.raises(DataError, match="outside 0 to white = 1"):
        open_images(COLOR.astype(np.float32), white=1.0)


@pytest.mark.parametrize("shape", [(4, 8, 6, 2), (4, 8, 6, 4), (4, 8), (8,), (2, 2, 8, 6, 3)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match=r"Image 0 has the shape .*expected uint8 of shape"):
        open_images(np.zeros(shape, np.uint8))


def test_arrays_of_one_image_are_not_taken_for_many_gray_ones() -> None:
    with pytest.raises(InvalidValue, match=r"shape \[8, 6, 3\], which is one image"):
        open_images(COLOR[0])


FLOATS = torch.from_numpy(COLOR.transpose(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(
    "images",
    [
        COLOR.transpose(0, 3, 1, 2),
        torch.from_numpy(COLOR),
        torch.from_numpy(COLOR.transpose(0, 3, 1, 2)),
        torch.from_numpy(COLOR.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last),
        FLOATS,
        FLOATS.float().requires_grad_(),
        list(FLOATS.half()),
        COLOR / np.float32(255),
        [Image.fromarray(image) for image in COLOR],
        [Image.fromarray(COLOR[0]), COLOR[1], FLOATS[2], torch.from_numpy(COLOR[3])],
        np.frombuffer(COLOR.tobytes(), np.uint8).reshape(COLOR.shape),  # read-only
    ],
)
def test_arrays_are_the_same_images_in_every_usual_form(images: object) -> None:
    store = open_images(images)
    np.testing.assert_array_equal(np.stack([store.image(row) for row in range(4)]), COLOR)


def test_arrays_of_objects_may_be_ragged() -> None:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [picture(5, 7), picture(9, 3)]
    assert open_images(ragged).heights.tolist() == [5, 9]


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 8, 6), (8, 6, 1)])
def test_arrays_with_one_channel_or_in_either_order_keep_their_size(shape: tuple[int, ...]) -> None:
    store = open_images([np.zeros(shape, np.uint8)])
    assert (store.heights[0], store.widths[0]) == (8, 6)


def test_arrays_of_three_columns_are_channels_first_in_a_tensor_and_last_in_numpy() -> None:
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    np.testing.assert_array_equal(open_images([image]).image(0), image)
    tensor = open_images([torch.from_numpy(image)]).image(0)
    np.testing.assert_array_equal(tensor, image.transpose(1, 2, 0))


def test_pillow_images_of_the_caller_stay_open_and_palettes_are_colors() -> None:
    image = Image.fromarray(COLOR[0]).quantize(4)
    store = open_images([image, image])
    np.testing.assert_array_equal(store.image(1), np.asarray(image.convert("RGB")))
    image.load()


@pytest.mark.parametrize("images", [np.zeros((0, 8, 8, 3), np.uint8), []], ids=["array", "list"])
def test_arrays_without_images_are_refused(images: object) -> None:
    with pytest.raises(InvalidValue, match="no images"):
        open_images(images)


def test_arrays_with_an_image_without_pixels_are_refused() -> None:
    with pytest.raises(InvalidValue, match="Image 1 has the shape"):
        open_images([COLOR[0], np.zeros((0, 5, 3), np.uint8)])


@pytest.mark.parametrize("source", [None, 17, {"images": 1}], ids=str)
def test_arrays_something_else_is_refused(source: object) -> None:
    with pytest.raises(InvalidValue, match="expected"):
        open_images(source)


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "a", "b"], np.array(["a", "b"] * 2), np.array(["a", "b"] * 2, dtype=object)],
)
def test_arrays_take_names_of_classes_in_every_form(labels: object) -> None:
    store = open_images((COLOR, labels))
    assert store.class_names == ("a", "b")
    assert store.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "labels",
    [[2, 0, -1, 0], [2.0, 0.0, -1.0, 0.0], [2, 0, None, 0], torch.tensor([2, 0, -1, 0]),
     np.array([2, 0, None, 0], dtype=object), np.array([2, 0, -1, 0], np.int8),
     [np.int64(2), np.int32(0), torch.tensor(-1), 0]],
)  # fmt: skip
def test_arrays_take_numbers_of_classes_in_every_form(labels: object) -> None:
    assert open_images((COLOR, labels)).labels.tolist() == [2, 0, -1, 0]


def test_arrays_with_numbers_that_count_no_classes_have_a_class_for_each() -> None:
    store = open_images((COLOR, [7, 10**12, -1, 7]))
    assert store.class_names == ("7", "1000000000000")
    assert store.labels.tolist() == [0, 1, -1, 0]


@pytest.mark.parametrize("image", [Image.fromarray, lambda a: a, torch.from_numpy])
def test_list_of_images_with_labels_is_what_a_dataset_of_torch_lists(image: object) -> None:
    store = open_images([(image(picture), "cd"[row % 2]) for row, picture in enumerate(COLOR)])
    assert store.labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(store.image(3), COLOR[3])


def test_pillow_images_may_have_labels_beside_them() -> None:
    store = open_images(([Image.fromarray(image) for image in COLOR], [0, 1, 1, 0]))
    assert store.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    "labels",
    [[0, 1], [0.5, 1, 2, 3], [[0], [1], [2], [3]], [0, 1, 2, -2], ["a", "b", 0, 1], [b"a"] * 4, 3],
    ids=str,
)
def test_arrays_with_labels_that_do_not_fit_are_refused(labels: object) -> None:
    with pytest.raises(InvalidValue, match="label"):
        open_images((COLOR, labels))


def test_store_as_source_is_returned_as_it_is() -> None:
    store = store_from_arrays(COLOR)
    assert open_images(store) is store


def test_store_as_source_can_be_resized_and_limited() -> None:
    store = store_from_arrays(
        [picture(30, 40, seed) for seed in range(5)],
        labels=np.arange(5),
        class_names=tuple("abcde"),
    )
    smaller = open_images(store, short_side=15, limit=3)
    assert smaller.heights.tolist() == [15] * 3
    assert [int(name.split("#")[1]) for name in smaller.names] == smaller.labels.tolist()
    assert set(smaller.ids) < set(store.ids)
    assert smaller.class_names == tuple("abcde")

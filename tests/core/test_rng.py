import numpy as np
import pytest

from coview.core.rng import Stream, key_words, permutation, philox, uniforms


# Known answers of Philox4x32-10 from the authors' test vectors.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    assert philox(np.array(counter, dtype=np.uint64), key).tolist() == expected


IDS = np.array([5, -7, 2**62, 0], dtype=np.int64)


def draws(**changes):
    setting = {"seed": 3, "stream": Stream.VIEWS, "ids": IDS, "epoch": 1, "view": 0, "count": 9}
    setting |= changes
    return uniforms(
        setting.pop("seed"), setting.pop("stream"), setting.pop("ids"), **setting
    )  # fmt: skip


def test_draws_are_in_range_and_exact_multiples():
    found = draws(ids=np.arange(1000), count=40)
    assert found.min() >= 0
    assert found.max() < 1
    assert (found * 2**24 == np.round(found * 2**24)).all()
    assert abs(found.mean() - 0.5) < 0.01


def test_a_row_depends_on_its_id_alone():
    assert (draws(ids=IDS[::-1].copy())[::-1] == draws()).all()
    assert (draws(ids=IDS[2:3].copy()) == draws()[2:3]).all()


def test_first_columns_do_not_depend_on_the_count():
    assert (draws(count=40)[:, :9] == draws()).all()


@pytest.mark.parametrize(
    "changes",
    [{"seed": 4}, {"seed": 3 + 2**32}, {"stream": Stream.ORDER}, {"epoch": 2}, {"view": 1}],
)
def test_every_part_of_the_key_matters(changes):
    assert (draws(**changes) != draws()).mean() > 0.95


def test_streams_have_distinct_keys_for_every_seed_word():
    words = {key_words(seed, stream) for seed in (0, 1, 2**40) for stream in Stream}
    assert len(words) == 3 * len(Stream)


def test_permutation_is_one_and_differs_by_epoch():
    ids = np.arange(1000, dtype=np.int64)
    first, second = (permutation(0, Stream.ORDER, ids, draw_index=e) for e in (0, 1))
    assert sorted(first) == list(range(1000))
    assert (first != second).mean() > 0.9


def test_adding_images_keeps_the_relative_order_of_the_others():
    ids = np.arange(1000, dtype=np.int64)
    whole = permutation(0, Stream.ORDER, ids, draw_index=0)
    part = permutation(0, Stream.ORDER, ids[:500], draw_index=0)
    assert [row for row in whole if row < 500] == part.tolist()

"""Held-out images, enough images, labels of one part numbered as another's, and ids."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import write_images

from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore, store_from_arrays
from coview.data import listing, open_images, relabel, require_images, split_held_out
from coview.data.held_out import hold_out


def store(count: int, first: int = 0, **options: object) -> ImageStore:
    images = np.zeros((count, 1, 1, 3), np.uint8)
    names = [f"{number}.png" for number in range(first, first + count)]
    return store_from_arrays(images, names=names, **options)


def test_held_out_rows_and_the_rest_are_everything_once() -> None:
    train, held_out = split_held_out(store(1000), 0.1, seed=0)
    assert sorted([*train, *held_out]) == list(range(1000))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()


def test_a_run_on_very_few_images_has_two_to_be_judged_by() -> None:
    """A fifth of 32 images by chance is now and then none or one."""
    numbers = {len(hold_out(store(32), seed)[1]) for seed in range(2000)}
    assert min(numbers) == 2
    seed = next(s for s in range(2000) if len(split_held_out(store(32), 0.2, s)[1]) < 2)
    train, held_out = hold_out(store(32), seed)
    assert sorted([*train, *held_out]) == list(range(32))
    assert set(split_held_out(store(32), 0.2, seed)[1]) <= set(held_out)


def test_held_out_share_is_about_what_was_asked() -> None:
    _, held_out = split_held_out(store(20_000), 0.1, seed=0)
    assert abs(len(held_out) - 2000) < 5 * np.sqrt(20_000 * 0.1 * 0.9)


def test_held_out_images_stay_when_images_are_added() -> None:
    small, large = store(500, first=300), store(2000)
    names = {part.names[row] for part in (small,) for row in split_held_out(part, 0.2, seed=5)[1]}
    held_out = {large.names[row] for row in split_held_out(large, 0.2, seed=5)[1]}
    assert held_out & set(small.names) == names


def test_held_out_grows_with_the_share() -> None:
    one, two = (set(split_held_out(store(500), share, seed=1)[1]) for share in (0.1, 0.3))
    assert one < two


def test_held_out_depends_on_the_seed() -> None:
    one, two = (set(split_held_out(store(500), 0.2, seed=seed)[1]) for seed in (0, 1))
    assert one != two


def test_held_out_share_of_zero_keeps_everything() -> None:
    train, held_out = split_held_out(store(50), 0.0, seed=0)
    assert len(train) == 50
    assert len(held_out) == 0
    assert held_out.dtype == train.dtype == np.int64


def test_held_out_is_independent_of_the_limit() -> None:
    """Both are drawn from ids; the images of a limit must not be the held-out ones."""
    limited = open_images(np.zeros((4000, 1, 1, 3), np.uint8), limit=400)
    _, held_out = split_held_out(limited, 0.1, seed=0)
    assert 10 < len(held_out) < 80


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_held_out_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(InvalidValue, match="held-out `share`"):
        split_held_out(store(5), share, seed=0)


def test_require_images_accepts_enough() -> None:
    require_images(store(2), 2, "pretraining")


def test_require_images_says_what_is_missing(tmp_path: object) -> None:
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "c.png").write_bytes(b"")
    opened = open_images(tmp_path, allow_broken=True)
    with pytest.raises(DataError) as caught:
        require_images(opened, 16, "pretraining")
    assert str(caught.value) == (
        f"{tmp_path} has 2 usable images (1 more unusable); pretraining needs at least 16."
    )


def test_relabel_numbers_a_test_part_as_the_training_part() -> None:
    part = store(4, labels=np.array([0, 1, -1, 1]), class_names=("bee", "eel"))
    renamed = relabel(part, ("ant", "bee", "cat", "eel"))
    assert renamed.labels.tolist() == [1, 3, -1, 3]
    assert renamed.class_names == ("ant", "bee", "cat", "eel")


def test_relabel_ignores_class_names_that_no_image_has() -> None:
    part = store(2, labels=np.array([0, 0]), class_names=("bee", "unseen"))
    assert relabel(part, ("bee",)).labels.tolist() == [0, 0]


def test_relabel_refuses_unknown_classes_and_missing_labels() -> None:
    part = store(2, labels=np.array([0, 1]), class_names=("bee", "eel"))
    with pytest.raises(DataError, match="classes that the other part lacks: eel"):
        relabel(part, ("bee",))
    with pytest.raises(DataError, match="has no labels"):
        relabel(store(2), ("bee",))


def test_ids_that_collide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "image_id", lambda name: len(name))
    with pytest.raises(DataError, match=r"'aa' and 'bb' have the same id"):
        listing.image_ids(["a", "aa", "bbb", "bb"])

"""Decoding once: order, quarantine, memory or disk, and what is kept for the next open."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, tiff_12_bit, write_images

from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore
from coview.data import open_images
from coview.data import store as store_module
from coview.data.decode import decode_image
from coview.data.pixels import bytes_in_memory
from coview.data.stream import open_stream

NAMES = [f"{number:03}.png" for number in range(40)]


def kept(cache: Path) -> list[Path]:
    """The stores in a cache folder, and whatever else lies there."""
    return sorted((cache / "stores").iterdir()) if (cache / "stores").is_dir() else []


def assert_same(one: ImageStore, other: ImageStore) -> None:
    assert one.names == other.names
    assert one.fingerprint == other.fingerprint
    assert one.quarantine == other.quarantine
    for row in range(len(one)):
        np.testing.assert_array_equal(one.image(row), other.image(row))


def refuse_decoding(*_: object) -> None:
    raise AssertionError("a kept store must not be decoded again")


# --- order ---


def test_store_order_does_not_depend_on_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, NAMES)

    def uneven(content: Path, spec: object) -> object:
        time.sleep(0.01 if int(content.stem) % 7 == 0 else 0)
        return decode_image(content, spec)

    monkeypatch.setattr(store_module, "_CHUNK_IMAGES", 1)
    monkeypatch.setattr(store_module, "decode_image", uneven)
    many = open_images(tmp_path, workers=8)
    assert many.names == NAMES
    assert_same(many, open_images(tmp_path, workers=1))


def test_store_keeps_images_of_different_sizes(tmp_path: Path) -> None:
    shapes = [(5, 9), (1, 1), (30, 2), (7, 7)]
    for number, shape in enumerate(shapes):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(*shape, seed=number)))
    store = open_images(tmp_path)
    assert list(zip(store.heights, store.widths, strict=True)) == shapes
    assert store.starts.tolist() == [0, 45, 46, 106]
    assert store.pixels.shape == (155, 4)
    np.testing.assert_array_equal(store.image(2), picture(30, 2, seed=2))


# --- quarantine ---


def test_store_quarantines_broken_files_with_their_reasons(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    (tmp_path / "000.png").write_bytes(b"")
    (tmp_path / "007.png").write_bytes((tmp_path / "008.png").read_bytes()[:90])
    (tmp_path / "039.png").write_bytes(b"not a picture")
    store = open_images(tmp_path, allow_broken=True)
    assert [name for name, _ in store.quarantine] == ["000.png", "007.png", "039.png"]
    assert store.quarantine[0][1] == "empty file"
    assert store.names == [name for name in NAMES if name not in dict(store.quarantine)]
    np.testing.assert_array_equal(store.image(6), picture(seed=8))


@pytest.mark.parametrize(
    ("images", "broken", "accepted"),
    [(100, 3, True), (100, 4, False), (61, 1, True), (10, 1, True), (9, 1, False)],
)
def test_store_stops_above_one_percent_broken_and_three(
    tmp_path: Path, images: int, broken: int, accepted: bool
) -> None:
    content = encoded(picture(4, 4))
    for number in range(images):
        (tmp_path / f"{number:03}.png").write_bytes(b"" if number < broken else content)
    if accepted:
        assert len(open_images(tmp_path)) == images - broken
    else:
        sentence = rf"^{broken} of {images} .*000\.png \(empty file\).*`allow_broken`"
        with pytest.raises(DataError, match=sentence):
            open_images(tmp_path)


def test_store_stops_early_on_a_hopeless_source(tmp_path: Path) -> None:
    decoded = []

    def broken(content: object, spec: object) -> object:
        decoded.append(content)
        return store_module.Rejected("broken")

    images = [picture(2, 2)] * 3000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "decode_image", broken)
        with pytest.raises(DataError, match=r"^At least \d+ of 3,000 images"):
            open_images(images, workers=1)
    assert len(decoded) < 1000


def test_store_without_any_usable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"No image in .* is usable: a\.png \(empty file\), b\.jpg"):
        open_images(tmp_path, allow_broken=True)


def test_few_broken_images_are_named_without_a_limit_of_none(tmp_path: Path) -> None:
    write_images(tmp_path, ["good.png"])
    (tmp_path / "bad.jpg").write_bytes(b"text")
    with pytest.raises(DataError) as error:
        open_images(tmp_path)
    sentence = str(error.value)
    assert sentence.startswith(f"1 of 2 images in {tmp_path} cannot be used: bad.jpg (not an image")
    assert sentence.endswith("; repair or remove it, or skip it with `allow_broken`.")
    with pytest.raises(DataError, match=r"^The image bad\.jpg cannot be used: not an image"):
        open_images(tmp_path / "bad.jpg")


def test_store_labels_skip_the_broken(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png", "cat/2.png", "dog/1.png"])
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    store = open_images(tmp_path, labels_from="folders", allow_broken=True)
    assert store.names == ["cat/2.png", "dog/1.png"]
    assert store.labels.tolist() == [0, 1]


# --- memory and disk ---


def test_store_on_disk_equals_the_one_in_memory(tmp_path: Path) -> None:
    write_images(tmp_path / "images", NAMES)
    memory = open_images(tmp_path / "images", cache=tmp_path / "cache")
    assert kept(tmp_path / "cache") == []
    disk = open_images(tmp_path / "images", memory_share=0, cache=tmp_path / "cache")
    assert len(kept(tmp_path / "cache")) == 1
    assert_same(memory, disk)


def test_store_moves_to_disk_when_memory_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", NAMES)
    size = 12 * 16 * 4
    monkeypatch.setattr(store_module, "memory_bytes", lambda: 100 * size)
    monkeypatch.setattr(store_module, "bytes_in_memory", lambda: 0)
    half = open_images(tmp_path / "images", memory_share=0.2, cache=tmp_path / "cache")
    assert len(kept(tmp_path / "cache")) == 1
    whole = open_images(tmp_path / "images", memory_share=0.4, cache=tmp_path / "other")
    assert kept(tmp_path / "other") == []
    assert_same(half, whole)


def test_all_open_stores_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", NAMES)
    gc.collect()
    before = bytes_in_memory()
    first = open_images(tmp_path / "images")
    size = bytes_in_memory() - before
    assert size == first.pixels.nbytes > 0
    part = first.subset(np.arange(2))
    monkeypatch.setattr(store_module, "memory_bytes", lambda: before + 2 * size - 1)
    options = {"memory_share": 1.0, "cache": tmp_path / "cache"}
    second = open_images(tmp_path / "images", **options)
    assert "on disk" in second.storage
    assert_same(first, second)
    del first
    gc.collect()
    assert bytes_in_memory() - before == size, "its part is still open"
    del part
    gc.collect()
    assert bytes_in_memory() == before
    assert "in memory" in open_images(tmp_path / "images", memory_share=1.0, cache="none").storage


def test_store_on_disk_says_where_and_memory_says_nothing(
    tmp_path: Path,
) -> None:
    write_images(tmp_path / "images", NAMES)
    assert open_images(tmp_path / "images", cache=tmp_path / "cache").notes == ()
    store = open_images(tmp_path / "images", cache=tmp_path / "cache", memory_share=0)
    (folder,) = kept(tmp_path / "cache")
    assert f"are kept in {folder}" in store.notes[0]


@pytest.mark.parametrize(("short_side", "noted"), [(11, True), (13, False), (None, False)])
def test_store_says_the_short_side_that_larger_images_are_kept_at(
    tmp_path: Path, short_side: int | None, noted: bool
) -> None:
    write_images(tmp_path, NAMES[:3], height=12, width=16)
    notes = open_images(tmp_path, short_side=short_side).notes
    assert (f"are kept at {short_side} px" in "".join(notes)) == noted


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_store_says_that_images_of_16_bits_are_nearly_black(tmp_path: Path, share: float) -> None:
    """Also where its pixels are there already; not of images that say what is white."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write_images(folder, NAMES[:2])
    for number in range(3):
        (folder / f"scan {number}.png").write_bytes(encoded(values))
    options = {"cache": cache, "memory_share": share}
    for _ in range(2):
        (note,) = [n for n in open_images(folder, **options).notes if "black" in n]
        assert "no gray level above 16 of 255" in note
        assert "set `white` to the value that means white, perhaps 4095" in note
    stream = open_stream(folder)
    assert len(list(stream.parts(np.arange(5)))) == 1
    assert stream.notes == (note,)
    notes = open_images(folder, white=4095, **options).notes
    assert not [note for note in notes if "black" in note]
    (folder / "scan 1.png").write_bytes(encoded(values * 16))
    notes = open_images(folder, **options).notes
    assert not [note for note in notes if "black" in note]


def test_dark_images_that_declare_their_white_are_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_12_bit([0, 16, 17, 18]))
    (tmp_path / "b.png").write_bytes(encoded(np.full((4, 4), 9, np.uint8)))
    assert open_images(tmp_path).notes == ()


def test_store_on_disk_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", NAMES)
    (tmp_path / "images" / "005.png").write_bytes(b"")
    options = {"memory_share": 0.0, "cache": tmp_path / "cache", "allow_broken": True}
    first = open_images(tmp_path / "images", **options)
    monkeypatch.setattr(store_module, "decode_image", refuse_decoding)
    assert_same(first, open_images(tmp_path / "images", **options))


def test_store_on_disk_serves_other_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", ["cat/1.png", "dog/1.png"])
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    open_images(tmp_path / "images", **options)
    monkeypatch.setattr(store_module, "decode_image", refuse_decoding)
    labeled = open_images(tmp_path / "images", labels_from="folders", **options)
    assert labeled.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "change",
    [{"short_side": 8}, {"limit": 30}, {"max_pixels": 1000}, {"white": 9.0}, "touched", "added"],
)
def test_store_on_disk_is_not_reused_for_anything_else(
    tmp_path: Path, change: dict[str, float] | str
) -> None:
    write_images(tmp_path / "images", NAMES)
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    open_images(tmp_path / "images", **options)
    if change == "touched":
        os.utime(tmp_path / "images" / "003.png", (1, 1))
    if change == "added":
        write_images(tmp_path / "images", ["new.png"])
    options |= change if isinstance(change, dict) else {}
    open_images(tmp_path / "images", **options)
    assert len(kept(tmp_path / "cache")) == 2


def test_store_of_other_arrays_is_not_taken_for_the_first(tmp_path: Path) -> None:
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    one = open_images(np.zeros((3, 4, 4, 3), np.uint8), **options)
    two = open_images(np.ones((3, 4, 4, 3), np.uint8), **options)
    assert one.fingerprint != two.fingerprint
    assert two.image(0).max() == 1


def _cut(store: Path) -> None:
    os.truncate(store / "pixels.bin", 1000)


def _lose(store: Path) -> None:
    (store / "store.json").unlink()


def _alter(store: Path) -> None:
    index = bytearray((store / "index.npz").read_bytes())
    index[len(index) // 2] ^= 1
    (store / "index.npz").write_bytes(index)


def _foreign(store: Path) -> None:
    about = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(about | {"format": "another"}))


def _scramble(store: Path) -> None:
    (store / "store.json").write_text("{not json")


@pytest.mark.parametrize("damage", [_cut, _lose, _alter, _foreign, _scramble])
def test_store_on_disk_that_is_not_whole_is_made_anew(tmp_path: Path, damage: object) -> None:
    write_images(tmp_path / "images", NAMES)
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    memory = open_images(tmp_path / "images")
    open_images(tmp_path / "images", **options)
    damage(kept(tmp_path / "cache")[0])
    assert_same(memory, open_images(tmp_path / "images", **options))
    assert len(kept(tmp_path / "cache")) == 1


def test_store_interrupted_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", NAMES)

    def interrupt(content: Path, spec: object) -> object:
        if content.stem == "030":
            raise KeyboardInterrupt
        return decode_image(content, spec)

    monkeypatch.setattr(store_module, "_CHUNK_IMAGES", 1)
    monkeypatch.setattr(store_module, "decode_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_images(tmp_path / "images", memory_share=0, cache=tmp_path / "cache")
    assert kept(tmp_path / "cache") == []


def test_store_sweeps_what_a_crash_left_a_day_ago(tmp_path: Path) -> None:
    write_images(tmp_path / "images", NAMES)
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    open_images(tmp_path / "images", **options)
    (whole,) = kept(tmp_path / "cache")
    _lose(whole)
    for name, age in (("01", 2e5), ("ab", 10)):
        left = whole.with_name(f".{whole.name}.{name}.tmp")
        left.mkdir()
        (left / "pixels.bin").write_bytes(b"half")
        os.utime(left / "pixels.bin", (time.time() - age,) * 2)
    open_images(tmp_path / "images", **options)
    assert [path.name for path in kept(tmp_path / "cache")] == [
        f".{whole.name}.ab.tmp",
        whole.name,
    ]


def test_store_on_disk_can_be_written_without_changing_the_file(tmp_path: Path) -> None:
    options = {"memory_share": 0.0, "cache": tmp_path / "cache"}
    images = np.full((3, 4, 4, 3), 7, np.uint8)
    open_images(images, **options).pixels[:] = 0
    assert open_images(images, **options).image(0).min() == 7


def test_store_default_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVIEW_CACHE", str(tmp_path / "chosen"))
    open_images(np.zeros((2, 4, 4, 3), np.uint8), memory_share=0)
    assert len(kept(tmp_path / "chosen")) == 1


# --- arguments ---


@pytest.mark.parametrize(
    "wrong",
    [{"memory_share": 1.5}, {"memory_share": -0.1}, {"workers": 0}, {"limit": 0}, {"seed": -1}],
)
def test_open_refuses_values_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        open_images(np.zeros((2, 4, 4, 3), np.uint8), **wrong)


def test_open_limit_draws_by_seed_and_id() -> None:
    images = np.zeros((100, 2, 2, 3), np.uint8)
    ten, twenty = open_images(images, limit=10), open_images(images, limit=20)
    assert len(ten) == 10
    assert set(ten.ids) < set(twenty.ids)
    assert set(ten.ids) != set(open_images(images, limit=10, seed=1).ids)
    assert len(open_images(images, limit=1000)) == 100


def test_open_limit_is_decided_before_decoding(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    for name in set(NAMES) - set(open_images(tmp_path, limit=5).names):
        (tmp_path / name).write_bytes(b"")
    assert open_images(tmp_path, limit=5).quarantine == ()

"""Where pixels are: memory, then disk up to a limit, then decoded on demand; always the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encoded, picture, write_images
from PIL import Image, ImageFile

from coview.core.errors import DataError, InvalidValue, StorageError
from coview.core.images import ImageStore
from coview.data import open_images
from coview.data import store as store_module
from coview.data.cache import (
    LIMIT_VARIABLE,
    allowance,
    cache_entries,
    clear_cache,
    is_being_written,
    make_room,
    part_folder,
    remove_unfinished,
)
from coview.data.decode import strict_pillow
from coview.data.spec import DataSpec
from coview.views import ViewPlan, ViewSpec, views_of

NAMES = [f"{number:03}.png" for number in range(40)]
DECODED = 12 * 16 * 4 * len(NAMES)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COVIEW_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "photos", NAMES)
    return tmp_path / "photos"


def on_demand(source: object, **options: object) -> ImageStore:
    store = open_images(source, memory_share=0, cache="none", **options)
    assert store.decoder is not None
    assert len(store.pixels) == 0
    return store


def in_parquet(path: Path, count: int = 40) -> Path:
    images = [encoded(picture(seed=number)) for number in range(count)]
    pq.write_table(pa.table({"image": images}), path, row_group_size=7)
    return path


def files(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("stores/*/*")}


# --- the same pixels ---


@pytest.mark.parametrize("kind", ["folder", "parquet", "arrays"])
def test_on_demand_is_the_decoded_store_bit_for_bit(photos: Path, kind: str) -> None:
    arrays = np.stack([picture(seed=number) for number in range(40)])
    source = {"folder": photos, "parquet": photos.parent / "a.parquet", "arrays": arrays}[kind]
    if kind == "parquet":
        in_parquet(source)
    decoded, store = open_images(source, short_side=9), on_demand(source, short_side=9)
    assert store.names == decoded.names
    assert store.fingerprint == decoded.fingerprint
    plan = ViewPlan(views=(ViewSpec(size=8), ViewSpec(size=6)))
    rows = np.array([3, 39, 3, 0, 17])
    for other in (store, on_demand(source, short_side=9)):  # the second from its index
        for row in rows.tolist():
            np.testing.assert_array_equal(other.image(row), decoded.image(row))
        for threads in (1, 2):
            options = {"seed": 1, "epoch": 2, "threads": threads}
            pairs = zip(views_of(other, rows, plan, **options),
                        views_of(decoded, rows, plan, **options), strict=True)  # fmt: skip
            assert all(a.equal(b) for a, b in pairs)


def test_on_demand_subset_decodes_its_own_rows(photos: Path) -> None:
    subset = on_demand(photos).subset(np.array([5, 2]))
    np.testing.assert_array_equal(subset.image(0), picture(seed=5))
    window = subset.window(np.array([1, 0, 1]))
    assert window.starts.tolist() == [0, 192, 0]  # an image that is there twice is decoded once


def test_on_demand_renders_a_batch_for_a_device_from_one_decoding(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = on_demand(photos), []
    decode = store_module.OnDemand.__call__

    def count(self: store_module.OnDemand, places: np.ndarray) -> list[np.ndarray]:
        calls.append(len(places))
        return decode(self, places)

    monkeypatch.setattr(store_module.OnDemand, "__call__", count)
    render = sys.modules["coview.views.render"]
    monkeypatch.setattr(render, "render_reference_window", lambda window, *_, **__: len(window))
    plan = ViewPlan(views=(ViewSpec(size=8),) * 3)
    assert views_of(store, np.arange(10), plan, seed=0, epoch=0, device="cuda") == (10, 10, 10)
    assert calls == [10]


def test_on_demand_says_which_image_has_changed(photos: Path) -> None:
    store = on_demand(photos)
    (photos / "008.png").write_bytes(encoded(picture(5, 5)))
    with pytest.raises(DataError, match=r"008\.png .* has changed .*another size"):
        store.window(np.array([8]))
    (photos / "009.png").write_bytes(encoded(picture(seed=99)))
    with pytest.raises(DataError, match=r"009\.png .* has changed .*another picture"):
        store.image(9)


def test_on_demand_tries_again_what_the_file_system_refuses(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network share that does not answer for a moment ends no run; for long, it can go on."""
    store, waited = on_demand(photos), []
    gone = (photos / "007.png").rename(photos.parent / "gone.png")

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            gone.rename(photos / "007.png")

    monkeypatch.setattr("coview.data.on_demand.time.sleep", wait)
    np.testing.assert_array_equal(store.image(7), picture(seed=7))
    assert waited == [0.5, 2.0]
    (photos / "007.png").unlink()
    with pytest.raises(StorageError, match=r"007\.png in .* cannot be read any more: No such file"):
        store.image(7)
    assert waited[2:] == [0.5, 2.0, 8.0]


def test_on_demand_leaves_out_what_a_decoded_store_does(photos: Path) -> None:
    (photos / "003.png").write_bytes(b"")
    store = on_demand(photos, allow_broken=True)
    assert store.quarantine == (("003.png", "empty file"),)
    np.testing.assert_array_equal(store.image(3), picture(seed=4))


def test_strictness_lasts_while_any_thread_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    one, other = strict_pillow(), strict_pillow()
    with one:
        with other:
            pass
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False
        assert Image.MAX_IMAGE_PIXELS is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


# --- the choice ---


@pytest.mark.parametrize(
    ("memory", "limit", "storage"),
    [(DECODED, 0, "in memory"), (DECODED - 1, DECODED, "on disk"), (DECODED - 1, DECODED - 1, "on demand")],
)  # fmt: skip
def test_pixels_go_to_memory_then_to_disk_then_nowhere(
    photos: Path, monkeypatch: pytest.MonkeyPatch, memory: int, limit: int, storage: str
) -> None:
    monkeypatch.setattr(store_module, "memory_bytes", lambda: memory)
    monkeypatch.setattr(store_module, "bytes_in_memory", lambda: 0)
    monkeypatch.setattr(store_module, "allowance", lambda cache: limit)
    store = open_images(photos, memory_share=1.0)
    assert storage in store.storage
    cache = photos.parent / "cache"
    written = {"index.npz", "store.json", "pixels.bin", "lock"} if storage != "in memory" else set()
    assert files(cache) == written
    kept = sum(path.stat().st_size for path in cache.glob("stores/*/pixels.bin"))
    assert kept == (DECODED if storage == "on disk" else 0)


def test_pixels_that_outgrow_their_estimate_are_given_up(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "000.png").write_bytes(encoded(picture(2, 2)))  # the estimate is made from it
    monkeypatch.setattr(store_module, "allowance", lambda cache: DECODED // 2)
    store = open_images(photos, memory_share=0)
    assert store.decoder is not None
    np.testing.assert_array_equal(store.image(9), picture(seed=9))
    again = open_images(photos, memory_share=0)
    assert again.storage == store.storage


def test_disk_is_announced_before_it_is_used(photos: Path, capsys: pytest.CaptureFixture) -> None:
    open_images(photos)
    assert capsys.readouterr().out == ""
    open_images(photos, memory_share=0)
    assert "are written to" in capsys.readouterr().out


def test_full_disk_and_unwritable_cache_leave_a_store_that_works(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos.parent / "file").write_text("in the way")
    store = open_images(photos, memory_share=0, cache=photos.parent / "file")
    assert "on demand" in store.storage
    np.testing.assert_array_equal(store.image(9), picture(seed=9))


def test_full_disk_in_the_middle_removes_the_part(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, *content: bytes) -> None:
            raise OSError(28, "No space left on device")

        close = write

    leave = store_module.PixelWriter._leave_memory

    def fill(self: store_module.PixelWriter, length: int) -> None:
        leave(self, length)
        assert self._stream is not None
        self._stream.close()
        self._stream = Full()

    monkeypatch.setattr(store_module.PixelWriter, "_leave_memory", fill)
    store = open_images(photos, memory_share=0)
    assert "on demand" in store.storage
    assert [entry.size < DECODED for entry in cache_entries(photos.parent / "cache")] == [True]


def test_encoded_images_beyond_the_limit_are_an_error(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet is read in order, so that its encoded images are copied."""
    source = in_parquet(photos.parent / "a.parquet")
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    with pytest.raises(DataError, match=r"encoded images .* raise \$COVIEW_CACHE_LIMIT"):
        open_images(source, memory_share=0)
    assert cache_entries(photos.parent / "cache") == []


def test_encoded_images_beyond_the_limit_are_refused_before_all_are_decoded(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, decoded = in_parquet(photos.parent / "a.parquet"), []
    size = sum(len(encoded(picture(seed=number))) for number in range(40))
    monkeypatch.setenv(LIMIT_VARIABLE, f"{size / 3e6}MB")
    monkeypatch.setattr(store_module, "_CHUNK_IMAGES", 2)
    decode = store_module.decode_image
    monkeypatch.setattr(
        store_module, "decode_image", lambda *image: decoded.append(1) or decode(*image)
    )
    with pytest.raises(DataError, match="encoded images take more than"):
        open_images(source, memory_share=0, workers=1)
    assert 1 <= len(decoded) <= 10


def test_the_cache_makes_room_before_encoded_images_are_copied(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, asked = in_parquet(photos.parent / "a.parquet"), []
    size = sum(len(encoded(picture(seed=number))) for number in range(40))

    def room(cache: Path, wanted: int) -> None:
        asked.append((wanted, list(cache.glob("stores/.*/encoded.bin"))))

    monkeypatch.setattr("coview.data.pixels.make_room", room)
    store = open_images(source, memory_share=0, cache=photos.parent / "cache", short_side=10)
    assert asked == [(4 * 10 * 13 * 40, [])]  # the decoded pixels, in a file
    asked.clear()
    on_demand(source)
    assert asked == [(size, [])]
    assert len(store) == 40


def test_data_spec_keeps_the_word_none() -> None:
    spec = DataSpec.of("photos", cache=Path("none"))
    assert spec.cache == Path("none")
    assert DataSpec.from_json(spec.to_json()) == spec


# --- the cache ---


def test_stores_used_least_recently_make_room(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = photos.parent / "cache"
    for age, side in ((300, 9), (200, 10), (100, 11)):
        store = open_images(photos, memory_share=0, short_side=side)
        (entry,) = (e for e in cache_entries(cache) if e.used > time.time() - 50)
        for path in entry.folder.iterdir():
            os.utime(path, (time.time() - age,) * 2)
    sizes = [entry.size for entry in cache_entries(cache)]
    monkeypatch.setenv(LIMIT_VARIABLE, f"{(sum(sizes) - 1) / 1e6}MB")
    open_images(photos, memory_share=0, short_side=10)  # was used now
    make_room(cache, 0)
    assert len(cache_entries(cache)) == 2
    assert store.image(0).shape == (11, 15, 3)
    make_room(cache, sum(sizes))
    assert cache_entries(cache) == []


def test_a_store_that_is_granted_the_disk_of_old_ones_gets_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = photos.parent / "cache"
    open_images(photos, memory_share=0)
    (entry,) = cache_entries(cache)
    free = SimpleNamespace(free=entry.size)
    monkeypatch.setattr("coview.data.cache.shutil.disk_usage", lambda _: free)
    assert allowance(cache) == entry.size  # half of what is free with the old store removed
    make_room(cache, entry.size // 2)
    assert cache_entries(cache) == [entry]
    make_room(cache, entry.size)
    assert cache_entries(cache) == []


def test_cache_is_listed_and_cleared(photos: Path) -> None:
    cache = photos.parent / "cache"
    open_images(photos, memory_share=0)
    (entry,) = cache_entries(cache)
    assert entry.size > DECODED
    assert entry.description == f"40 images of {photos}"
    assert clear_cache(cache) == [entry]
    assert cache_entries(cache) == []


@pytest.mark.parametrize("word", ["20", "GB", "-1GB", "infGB"])
def test_limit_that_is_no_size_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, word)
    with pytest.raises(InvalidValue, match="is not a size: write for example"):
        open_images(photos, memory_share=0)


def test_part_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    """The killed process leaves no time for any cleaning; its number does not matter."""
    key = "0" * 32
    program = (
        "import os, pathlib\nfrom coview.data.cache import part_folder\n"
        f"with part_folder(pathlib.Path({str(tmp_path)!r}) / 'stores' / '{key}') as part:\n"
        "    (part / 'pixels.bin').write_bytes(b'half')\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    (dead,) = (tmp_path / "stores").iterdir()
    assert (dead / "pixels.bin").exists()
    with part_folder(tmp_path / "stores" / key) as part:
        assert is_being_written(part)
        remove_unfinished(tmp_path)
        assert list((tmp_path / "stores").iterdir()) == [part]
    assert list((tmp_path / "stores").iterdir()) == []


def test_permission_that_is_mended_is_tried_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store_module.decode_image

    def denied(content: object, spec: object) -> object:
        if content == photos / "003.png":
            return store_module.Rejected("Permission denied", may_pass=True)
        return real(content, spec)

    monkeypatch.setattr(store_module, "decode_image", denied)
    options = {"memory_share": 0.0, "allow_broken": True}
    assert len(open_images(photos, **options)) == 39
    assert open_images(photos, **options).quarantine == (("003.png", "Permission denied"),)
    monkeypatch.setattr(store_module, "decode_image", real)
    assert len(open_images(photos, **options)) == 40
    assert open_images(photos, **options).quarantine == ()

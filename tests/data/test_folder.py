"""A folder of images of any nesting: what is read, what is not, and which labels it gives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, write_images

from coview.core.errors import DataError, InvalidValue
from coview.core.images import image_id
from coview.data import kinds, open_images, scan
from coview.data.folder import clear_classes, first_folders


def test_folder_of_any_nesting_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["b/c/d/e.png", "a.png", "b/a.PNG", "z.png", "b.png"]
    write_images(tmp_path, names)
    store = open_images(tmp_path)
    assert store.names == sorted(names)
    for row, name in enumerate(store.names):
        np.testing.assert_array_equal(store.image(row), picture(seed=names.index(name)))


def test_folder_ids_come_from_the_relative_names(tmp_path: Path) -> None:
    write_images(tmp_path / "one", ["x/a.png", "b.png"])
    write_images(tmp_path / "two", ["b.png", "c.png", "x/a.png"])
    one, two = open_images(tmp_path / "one"), open_images(str(tmp_path / "two"))
    assert one.ids.tolist() == [image_id("b.png"), image_id("x/a.png")]
    assert set(one.ids) < set(two.ids)


def test_folder_names_that_are_not_utf8_can_be_written_and_keep_their_id(tmp_path: Path) -> None:
    content = encoded(picture())
    try:
        (tmp_path / os.fsdecode(b"\xe9t\xe9.png")).write_bytes(content)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    store = open_images(tmp_path)
    assert store.names[0].encode() == rb"\udce9t\udce9.png"
    assert store.ids[0] == image_id(os.fsdecode(b"\xe9t\xe9.png"))


def test_folder_ignores_and_counts_stray_files(
    tmp_path: Path,
) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    for stray in ("notes.txt", "labels.csv", "deep/model.bin", "noending"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_text("stray")
    store = open_images(tmp_path)
    assert len(store) == 2
    assert store.quarantine == ()
    (note,) = store.notes
    assert note.startswith("Ignored 4 files in")
    assert store.subset(np.array([1])).notes == store.notes


def test_folder_skips_hidden_files_and_folders(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", ".b.png", ".trash/c.png", "x/.hidden/d.png", "x/._e.png"])
    assert open_images(tmp_path).names == ["a.png"]


def test_folder_survives_loops_of_links(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/one.png", "b/two.png"])
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a")
    assert open_images(tmp_path).names == ["a/one.png", "b/two.png"]


def test_folder_follows_links_that_lead_outside(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", ["one.png"])
    write_images(tmp_path / "root", ["a.png"])
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "single.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    assert open_images(tmp_path / "root").names == ["a.png", "link/one.png", "single.png"]


def test_folder_dangling_link_goes_to_quarantine(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    store = open_images(tmp_path, allow_broken=True)
    assert store.quarantine == (("gone.png", "No such file or directory"),)


def test_folder_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    write_images(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "pipe.png")
    assert open_images(tmp_path).names == ["a.png"]


def test_folder_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / name).write_bytes(encoded(picture()))
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system wants UTF-8 names")
    assert open_images(tmp_path).ids.tolist() == [image_id(name)]


def test_folder_links_that_lead_nowhere_cost_a_line(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    for name, target in (("self", "self"), ("x", "y"), ("y", "x"), ("gone", "nowhere")):
        (tmp_path / name).symlink_to(target)
    store = open_images(tmp_path)
    assert store.names == ["a.png", "b.png"]
    assert dict(store.quarantine) == {
        **dict.fromkeys(("self", "x", "y"), "Too many levels of symbolic links"),
        "gone": "No such file or directory",
    }
    assert store.notes[0].startswith("4 places in")


def test_folder_link_to_a_pipe_is_not_opened(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to("pipe")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    store = open_images(tmp_path)
    assert store.names == ["a.png"]
    assert {reason for _, reason in store.quarantine} == {"not a regular file"}


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "#snapshot", "__MACOSX", ".Trashes", ".thumbnails", "$RECYCLE.BIN",
     "System Volume Information", "LOST+FOUND", ".ipynb_checkpoints"],
)  # fmt: skip
def test_folder_of_a_service_is_no_class(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, ["cat/1.png", "dog/1.png", f"{name}/cat/1.png", f"dog/{name}/1.png"])
    for system_file in ("Thumbs.db", "cat/._1.png", "dog/desktop.ini"):
        (tmp_path / system_file).write_bytes(b"x")
    store = open_images(tmp_path, labels_from="folders")
    assert (store.class_names, store.names) == (("cat", "dog"), ["cat/1.png", "dog/1.png"])
    assert store.quarantine == ()
    hidden = name.startswith(".")
    assert [note.partition(" (")[0] for note in store.notes] == (
        [] if hidden else ["Passed over 2 service folders"]
    )


def test_folder_of_unreadable_photographs_says_what_to_do(tmp_path: Path) -> None:
    for name in ("1.HEIC", "2.heic", "3.CR2", "4.mov", "5.psd", "6.svg", "7.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"2 HEIC photographs .* convert them to JPEG"):
        open_images(tmp_path)
    write_images(tmp_path, ["a.png"])
    notes = " ".join(open_images(tmp_path).notes)
    for words in ("2 HEIC", "1 raw photograph (.cr2)", "1 video", "1 editor's file", "1 drawing"):
        assert words in notes
    assert "Ignored 1 file " in notes


def test_folder_where_pillow_lacks_a_decoder_names_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["a.png"])
    (tmp_path / "b.avif").write_bytes(b"x")
    suffixes = kinds.IMAGE_SUFFIXES - {".avif"}
    for module in (kinds, scan):
        monkeypatch.setattr(module, "readable_suffixes", lambda: suffixes)
    (note,) = open_images(tmp_path).notes
    assert note.startswith("1 AVIF image (.avif) cannot be read; install a Pillow")


def test_folder_of_a_cache_is_no_data(tmp_path: Path) -> None:
    write_images(tmp_path / "d", ["a.png", "b.png"])
    cache = tmp_path / "d" / "cache"
    open_images(tmp_path / "d", memory_share=0.0, cache=cache)
    write_images(cache / "torchvision", ["c.png"])
    store = open_images(tmp_path / "d")
    assert (store.names, store.notes) == (
        ["a.png", "b.png"],
        ("Passed over 1 service folder (cache).",),
    )


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"\0\0\0\x18ftypheic", "a HEIC photograph"), (b"<html>", "a web page"), (b"%PDF", "a PDF")],
)
def test_folder_says_what_a_file_of_another_kind_is(
    tmp_path: Path, start: bytes, words: str
) -> None:
    write_images(tmp_path, ["a.png"])
    (tmp_path / "b.jpg").write_bytes(start + bytes(99))
    ((name, reason),) = open_images(tmp_path, allow_broken=True).quarantine
    assert name == "b.jpg"
    assert words in reason


def test_folder_by_pattern_takes_what_matches(tmp_path: Path) -> None:
    write_images(tmp_path, ["x/2024-a/1.png", "x/2024-b/2.PNG", "x/2025/3.png"])
    assert open_images(f"{tmp_path}/x/2024*").names == ["2024-a/1.png", "2024-b/2.PNG"]
    assert open_images(f"{tmp_path}/**/*.PNG").names == ["x/2024-b/2.PNG"]


# --- labels ---


def test_folder_has_no_labels_unless_asked(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    store = open_images(tmp_path)
    assert store.labels is None
    assert store.class_names == ()


@pytest.mark.parametrize("labels", ["folders", "auto"])
def test_folder_labels_are_the_first_level(tmp_path: Path, labels: str) -> None:
    write_images(tmp_path, ["dog/old/1.png", "cat/1.png", "dog/2.png"])
    store = open_images(tmp_path, labels_from=labels)
    assert store.class_names == ("cat", "dog")
    assert store.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cat/1", "dog/2"], ("cat", "dog")),
        (["cat/1", "dog/2", "3"], ()),
        (["cat/1", "cat/2"], ()),
        (["train/1", "test/2"], ()),
        (["train/1", "cat/2"], ("cat", "train")),
    ],
)
def test_folders_look_like_classes(names: list[str], classes: tuple[str, ...]) -> None:
    assert clear_classes(first_folders(names, ())) == classes


def test_folder_labels_without_sub_folders_is_a_sentence(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"are the names of sub-folders, and .* has none"):
        open_images(tmp_path, labels_from="folders")
    assert open_images(tmp_path, labels_from="auto").labels is None


def test_folder_image_beside_the_classes_is_unlabeled(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png", "dog/1.png", "loose.png"])
    assert open_images(tmp_path, labels_from="folders").labels.tolist() == [0, 1, -1]
    assert open_images(tmp_path, labels_from="auto").labels is None


def test_folder_named_as_parts_has_its_classes_below_them(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/cat/1.png", "train/dog/1.png", "Valid/cat/1.png"])
    store = open_images(tmp_path, labels_from="folders")
    assert (store.names, store.class_names) == (
        ["train/cat/1.png", "train/dog/1.png"],
        ("cat", "dog"),
    )
    assert (store.parts, store.labels.tolist()) == (("train", "val"), [0, 1])
    assert "has the parts train, val: reading train, 2 of 3 images" in store.notes[0]
    assert open_images(tmp_path, for_test=True).names == ["Valid/cat/1.png"]
    assert len(open_images(tmp_path, split="all")) == 3
    with pytest.raises(DataError, match="has no split 'test', only: train, val"):
        open_images(tmp_path, split="test")


def test_folder_of_parts_with_a_year_as_of_coco(tmp_path: Path) -> None:
    write_images(tmp_path, ["train2017/1.png", "train2017/2.png", "val2017/3.png"])
    assert open_images(tmp_path).names == ["train2017/1.png", "train2017/2.png"]
    assert open_images(tmp_path, split="val").names == ["val2017/3.png"]
    assert open_images(tmp_path, for_test=True).names == ["val2017/3.png"]


@pytest.mark.parametrize("others", [["test/2.png"], []])
def test_folder_with_an_image_beside_the_parts_gives_the_part_asked_for(
    tmp_path: Path, others: list[str]
) -> None:
    write_images(tmp_path, ["train/cat/1.png", "loose.png", *others])
    store = open_images(tmp_path, split="train")
    assert store.names == ["train/cat/1.png"]
    assert "reading train, 1 of" in store.notes[0]
    assert len(open_images(tmp_path, split="all")) == 2 + len(others)


def test_folder_of_one_part_is_read_without_a_word(tmp_path: Path) -> None:
    write_images(tmp_path, ["test/cat/1.png", "test/dog/1.png"])
    store = open_images(tmp_path, labels_from="auto")
    assert (len(store), store.class_names, store.notes) == (2, ("cat", "dog"), ())


@pytest.mark.parametrize("other", ["loose.png", "docs/figure.png"])
def test_folder_of_parts_with_an_image_beside_them_has_no_classes(
    tmp_path: Path, other: str
) -> None:
    write_images(tmp_path, ["train/cat/1.png", "val/cat/1.png", other])
    refused = (
        r"\(train, val\) are parts of a data set, not classes; open one of them, such as .*train"
    )
    with pytest.raises(DataError, match=refused):
        open_images(tmp_path, labels_from="folders")
    store = open_images(tmp_path, labels_from="auto")
    assert store.labels is None
    (note,) = store.notes
    assert f"has the parts train, val and 1 image beside them, such as {other}: all are" in note


def test_folder_with_one_class_named_as_a_part_has_classes(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/1.png", "bus/1.png"])
    store = open_images(tmp_path, labels_from="auto")
    assert (store.class_names, store.notes) == (("bus", "train"), ())


def test_folder_has_no_label_column(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png"])
    with pytest.raises(InvalidValue, match="use 'folders' or 'auto'"):
        open_images(tmp_path, labels_from="column")
    with pytest.raises(InvalidValue, match="do not apply to a folder of images"):
        open_images(tmp_path, label_column="y")


# --- mistakes ---


def test_folder_empty_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There are no images in the folder \S+; expected files"):
        open_images(tmp_path)


def test_folder_of_strays_only_counts_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    with pytest.raises(DataError, match="only 2 other files"):
        open_images(tmp_path)


def test_folder_unreadable_is_a_line_and_never_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["a.png", "locked/b.png"])
    scandir = os.scandir

    def locked(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    store = open_images(tmp_path)
    assert store.names == ["a.png"]
    assert store.quarantine == (("locked", "Permission denied"),)
    assert "1 place in" in store.notes[0]
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        DataError, match=r"No images can be seen in .* locked \(Permission denied\)"
    ):
        open_images(tmp_path)
    with pytest.raises(DataError, match=r"locked cannot be read \(Permission denied\)"):
        open_images(tmp_path / "locked")


@pytest.mark.parametrize("name", ["photo.jpg", "photo.PNG"])
def test_one_image_is_a_source(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(picture()))
    assert open_images(tmp_path / name).names == [name]


@pytest.mark.parametrize(
    ("name", "words"), [("a.zip", "unpack it"), ("a.txt", "expected images, a folder of them")]
)
def test_folder_other_file_in_place_of_it_is_a_sentence(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=words):
        open_images(tmp_path / name)


def test_folder_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidValue, match="The path '' is not one"):
        open_images("")


def test_folder_missing_offers_the_nearest_sibling(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"Did you mean .*photos\?"):
        open_images(tmp_path / "photo")


def test_folder_missing_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"no folder .*photo\. Did you mean .*photos/train\?"):
        open_images(tmp_path / "photo" / "train")


def test_folder_address_is_a_sentence() -> None:
    with pytest.raises(DataError, match="is an address; download it"):
        open_images("https://example.org/images.zip")


def test_folder_missing_without_anything_near_offers_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_images(tmp_path / "photos")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.data
def test_folder_of_real_photographs(shared_data: Path) -> None:
    store = open_images(shared_data / "photos" / "val", labels_from="folders", short_side=64)
    assert len(store) == 341
    assert len(store.class_names) == 10
    assert np.minimum(store.heights, store.widths).max() == 64
    assert store.quarantine == ()


def test_listing_very_many_files_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    open_images(tmp_path)
    assert "Listing" not in capsys.readouterr().out
    monkeypatch.setattr("coview.core.progress.LINE_SECONDS", -1.0)
    open_images(tmp_path)
    assert f"Listing {tmp_path}: 2 files and folders so far." in capsys.readouterr().out

"""What a user's words lead to, and how a place is looked at."""

import os
from pathlib import Path

import pytest

from coview.core.errors import InvalidValue, StorageError
from coview.core.options import checked
from coview.core.paths import absolute_path, local_path, open_regular
from coview.core.places import Kind, output_file, place_of, split_pattern


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_place_in_the_home_folder_has_many_spellings(home):
    for words in (
        "~/x",
        b"~/x",
        Path("~/x"),
        "~//x/.",
        f"file://{home}/x",
        f"file://localhost{home}/x",
    ):
        assert local_path(words) == home / "x"


def test_an_option_that_is_a_path_is_resolved_in_python_too(home):
    assert checked("out", "~/x", Path | None) == home / "x"
    with pytest.raises(InvalidValue, match="`out` is ''; expected a path"):
        checked("out", "", Path | None)


def test_a_tilde_without_a_home_folder_is_a_sentence(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(InvalidValue, match="this user has none"):
        local_path("~/x")


@pytest.mark.parametrize("words", ["", b"", "a\0b", "file://elsewhere/x"])
def test_words_that_are_no_path_are_a_sentence(words):
    with pytest.raises(InvalidValue):
        absolute_path(words)


def test_each_kind_of_place_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "run", "export", "cifar10", "odd[1]"):
        Path(name).mkdir()
    for name in ("run/run.json", "export/config.json", "export/model.safetensors", "A.PARQUET"):
        Path(name).write_text("{}")
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    expected = {
        "folder": Kind.FOLDER, "run/": Kind.RUN, "export": Kind.EXPORT, "A.PARQUET": Kind.FILE,
        "cifar10": Kind.NAME, "./cifar10": Kind.FOLDER, "odd[1]": Kind.FOLDER, "odd*": Kind.PATTERN,
        "loop": Kind.UNREADABLE, "loop/x": Kind.UNREADABLE, "pipe": Kind.SPECIAL,
        "link": Kind.SPECIAL, "absent": Kind.MISSING, "A.PARQUET/x": Kind.MISSING,
        "https://x.org/a": Kind.ADDRESS, "a" * 5000: Kind.UNREADABLE,
    }  # fmt: skip
    assert {words: place_of(words, ["cifar10"]).kind for words in expected} == expected
    assert place_of("A.PARQUET").suffix == ".parquet"
    assert place_of("folder").path == tmp_path / "folder"


def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"x"


def test_brackets_in_a_folder_that_exists_make_no_pattern(tmp_path, monkeypatch):
    folder = tmp_path / "photos [2024]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert place_of("runs/x").kind is Kind.MISSING
    assert place_of("runs/x[1]").kind is place_of("*.png").kind is Kind.PATTERN
    assert split_pattern(folder / "*.png") == (folder, ("*.png",))


def test_a_file_in_a_read_only_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(StorageError, match="is read-only"):
        output_file(tmp_path / "new" / "vectors.parquet", (".parquet",))

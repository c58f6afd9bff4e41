import errno

import pytest

from coview.core import files
from coview.core.errors import DamagedFile, StorageError
from coview.core.files import (
    append_line,
    digest,
    read_json,
    read_lines,
    storage_errors,
    write_bytes,
    write_json,
    write_text,
)


def test_json_round_trips(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2.5, None, "ü"]})
    assert read_json(tmp_path / "a" / "b.json") == {"x": [1, 2.5, None, "ü"]}


def test_a_file_that_another_machine_has_written_is_waited_for(tmp_path, monkeypatch):
    path, waited = tmp_path / "run" / "run.json", []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            write_bytes(path, b"x")

    monkeypatch.setattr(files.time, "sleep", sleep)
    files.wait_for(path)
    assert len(waited) == 3
    monkeypatch.setattr(files, "SEEN", 0.0)
    files.wait_for(tmp_path / "never")
    assert len(waited) == 3


def test_no_temporary_file_is_left(tmp_path):
    write_bytes(tmp_path / "x", b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path, monkeypatch, broken):
    target = tmp_path / "x"
    write_bytes(target, b"old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        *(("os.fsync", full) if broken == "fsync" else ("pathlib.Path.replace", full))
    )
    with pytest.raises(StorageError, match="No space left"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(("number", "free"), [(errno.ENOSPC, True), (errno.ENOTDIR, False)])
def test_space_is_asked_for_only_where_it_is_short(tmp_path, number, free):
    with pytest.raises(StorageError) as found, storage_errors(tmp_path / "x"):
        raise OSError(number, "why")
    assert ("Free some space" in str(found.value)) == free
    assert "hoose another folder; files written before are intact." in str(found.value)


def test_json_that_is_none_is_a_damaged_file(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_a_line_cut_off_by_a_crash_is_skipped_and_not_glued_to_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"a": 1})
    with path.open("ab") as stream:
        stream.write(b'{"a": 2')
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1}, {"a": 3}]


def test_nan_is_refused_rather_than_written_as_invalid_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))


def test_digest_tells_one_bit():
    assert digest(b"\x00") != digest(b"\x01")
    assert len(digest(b"")) == 32


def test_a_line_that_the_disk_takes_in_part_is_taken_back(tmp_path):
    """Past the process's limit on file sizes a write is short, as on a full disk."""
    import resource
    import signal

    path = tmp_path / "x.jsonl"
    append_line(path, {"a": 1})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(StorageError):
            append_line(path, {"b": "much longer than five bytes"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before


def test_a_name_that_is_no_text_is_spelled_out_in_a_text(tmp_path):
    write_text(tmp_path / "x", "caf\u00e9 \udcff")
    assert (tmp_path / "x").read_bytes() == "caf\u00e9 ".encode() + rb"\udcff"

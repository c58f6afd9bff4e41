"""Tar shards: read in place, with labels, and nothing hostile."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from image_files import encoded, picture

from coview.core.errors import DataError
from coview.data import open_images
from coview.data.shards import expand_braces
from coview.data.spec import DataSpec


def add(archive: tarfile.TarFile, name: str, content: bytes, **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


def write_shard(path: Path, first: int, count: int = 4, sidecar: str = "cls") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i in range(first, first + count):
            add(archive, f"{i:05d}.png", encoded(picture(seed=i)))
            label = {
                "cls": str(i % 3),
                "json": json.dumps({"label": "abc"[i % 3], "x": "abcd"[i % 4]}),
            }
            if sidecar:
                add(archive, f"{i:05d}.{sidecar}", label[sidecar].encode())
    return path


def test_shards_have_images_and_labels_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (1, 0):
        write_shard(tmp_path / f"train-{number:03d}.tar", 4 * number)
    store = open_images(str(tmp_path / "train-{000..001}.tar"), labels_from="auto")
    assert store.names[0] == "train-000.tar#00000.png"
    assert store.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert all((store.image(i) == picture(seed=i)).all() for i in range(8))
    assert open_images(tmp_path / "train-*.tar").names == store.names
    assert open_images(tmp_path).names == store.names
    assert open_images([tmp_path / "train-001.tar"]).names == store.names[4:]


def test_labels_of_json_are_named_by_an_option(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", 0, sidecar="json")
    store = open_images(path, labels_from="auto")
    assert [store.class_names[i] for i in store.labels] == ["a", "b", "c", "a"]
    assert open_images(path, label_column="x").class_names == ("a", "b", "c", "d")


def test_a_label_of_minus_one_is_unknown(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i, label in enumerate(("1", "-1", "0")):
            add(archive, f"{i}.png", encoded(picture(seed=i)))
            add(archive, f"{i}.cls", label.encode())
    assert open_images(tmp_path / "a.tar", labels_from="column").labels.tolist() == [1, -1, 0]


def test_a_plain_tar_of_class_folders_has_their_labels(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        add(archive, "cats", b"", type=tarfile.DIRTYPE)
        for i in range(4):
            add(archive, f"./{'cats' if i % 2 else 'dogs'}/{i}.png", encoded(picture(seed=i)))
        add(archive, "__MACOSX/cats/._1.png", b"x")
    store = open_images(tmp_path / "plain.tar", labels_from="auto")
    assert store.class_names == ("cats", "dogs")
    assert store.labels.tolist() == [1, 0, 1, 0]


def test_a_folder_of_shards_with_parts_gives_one_part(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "0.tar", 0)
    write_shard(tmp_path / "test" / "0.tar", 0, count=2)
    assert len(open_images(tmp_path)) == 4
    assert len(open_images(tmp_path, for_test=True)) == 2


def test_shards_are_opened_again_from_their_description(tmp_path: Path, monkeypatch) -> None:
    write_shard(tmp_path / "s-0.tar", 0)
    monkeypatch.chdir(tmp_path)
    spec = DataSpec.of("s-{0..0}.tar")
    monkeypatch.chdir("/")
    assert len(DataSpec.from_json(spec.to_json()).open()) == 4


def test_hostile_members_are_refused_and_names_are_no_paths(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(picture()))
    shard = tmp_path / "in" / "evil.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as archive:
        for i in range(2):
            add(archive, f"{i}.png", encoded(picture(seed=i)))
        add(archive, "link.png", b"", type=tarfile.SYMTYPE, linkname=str(secret))
        add(archive, "hard.png", b"", type=tarfile.LNKTYPE, linkname=str(secret))
        add(archive, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(archive, "../../escape.png", encoded(picture(seed=7)))
        add(archive, str(tmp_path / "absolute.png"), encoded(picture(seed=8)))
    before = sorted(tmp_path.rglob("*"))
    store = open_images(shard)
    assert len(store) == 4
    assert "Refused 3 links, devices or sparse files" in " ".join(store.notes)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("cut", [300, 512, 1500])
def test_a_shard_that_is_cut_short_is_said(tmp_path: Path, cut: int) -> None:
    whole = write_shard(tmp_path / "a.tar", 0, count=30, sidecar="")
    content = whole.read_bytes()
    with tarfile.open(whole) as archive:
        last = archive.getmembers()[-1]
    whole.write_bytes(content[: last.offset_data + last.size - min(cut, last.size // 2)])
    store = open_images(whole)
    assert len(store) >= 29
    assert "could not be read to the end" in " ".join(store.notes)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", 0, count=6, sidecar="")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        content[archive.getmembers()[3].offset + 150] ^= 0xFF  # of the checksum
    path.write_bytes(bytes(content))
    store = open_images(path)
    assert len(store) == 3
    assert store.quarantine == (("a.tar", "damaged after 3 images"),)


@pytest.mark.parametrize("content", [b"", b"not a tar" * 200, bytes(10240)])
def test_a_file_without_images_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="There are no images in"):
        open_images(tmp_path / "a.tar")


def test_a_huge_size_in_a_header_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for i in range(20):
            add(archive, f"{i:02d}.png", encoded(picture(seed=i)))
        member = tarfile.TarInfo("x.png")
        member.size = 1 << 40
        archive.fileobj.write(member.tobuf())
    store = open_images(path)
    assert len(store) == 20
    assert store.quarantine


def test_labels_of_json_may_be_true_and_false(tmp_path: Path) -> None:
    labels = [True, False, True]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for row, label in enumerate(labels):
            add(archive, f"{row}.png", encoded(picture(seed=row)))
            add(archive, f"{row}.json", json.dumps({"label": label}).encode())
    store = open_images(tmp_path / "a.tar", labels_from="auto")
    assert [store.class_names[label] for label in store.labels] == ["1", "0", "1"]


def test_braces_mean_ranges_and_choices() -> None:
    assert expand_braces("a") == ["a"]
    assert len(expand_braces("{a,b}-{00..11}.tar")) == 24
    with pytest.raises(DataError, match="more than a million"):
        expand_braces("{0..99999999}")
    with pytest.raises(DataError, match="its last number is below the first"):
        open_images("train-{010..000}.tar")

"""Embedding again embeds what is new; memory holds some images at a time; nothing is lost."""

import io
import json
import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DamagedFile, DataError, InvalidValue, StorageError
from coview.core.machine import process_started
from coview.data.stream import ImageStream
from coview.embeddings import EmbeddingTable
from coview.evaluation import extract
from coview.runs import embed_job, embed_journal, embed_rows
from coview.runs.embed import embeddings_of
from coview.runs.embed_job import images_of_table
from coview.runs.load import load_subject
from small_run import odd_file, small_export


def draw(path, seed, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def touch_all(folder):
    """Change the time of every file, as a copy of the folder does."""
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(1, 1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return small_export(tmp_path_factory.mktemp("encoders") / "small")


@pytest.fixture
def encoder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "encoder")


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        draw(tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def embedded(monkeypatch):
    """The names of all images that go through an encoder."""
    names = []
    whole = embed_rows.vectors_of_parts

    def spy(subject, parts, layers, **options):
        for part, vectors in whole(subject, parts, layers, **options):
            names.extend(part.names)
            yield part, vectors

    monkeypatch.setattr(embed_rows, "vectors_of_parts", spy)
    return names


def expected(encoder, folder):
    """The vectors by the ordinary way: all images in a store, one batch."""
    store = coview.data.open_images(folder, short_side=256, labels_from="auto")
    return store, extract(load_subject(encoder), store).layers["h"].numpy()


def test_the_table_is_that_of_the_images(encoder, photos):
    table = coview.embed(encoder, photos, device="cpu")
    store, h = expected(encoder, photos)
    assert table.path == encoder / "embeddings" / "photos.parquet"
    assert table.ids.tolist() == store.ids.tolist()
    assert table.names == list(store.names)
    assert table.labels.tolist() == store.labels.tolist()
    assert table.column("class")[0] == "a"
    assert table.paths == [photos / name for name in store.names]
    assert table.metadata["coview.fingerprint"] == store.fingerprint
    assert np.allclose(table.vectors("h"), h, atol=1e-5)


def test_a_second_call_embeds_what_is_new_or_changed(encoder, photos, embedded, capsys):
    first = coview.embed(encoder, photos, device="cpu")
    assert len(embedded) == 12
    embedded.clear()
    again = coview.embed(encoder, photos, device="cpu")
    assert embedded == []
    assert again.path.read_bytes() == first.path.read_bytes()
    draw(photos / "a" / "00.png", 100)  # changed
    draw(photos / "a" / "99.png", 101)  # new
    (photos / "b" / "01.png").unlink()
    (photos / "b" / "03.png").touch()  # another time, the same pixels
    (photos / "a" / "02.png").rename(photos / "b" / "02.png")  # another name: another image
    capsys.readouterr()
    table = coview.embed(encoder, photos, device="cpu")
    assert sorted(embedded) == ["a/00.png", "a/99.png", "b/02.png"]
    assert "Embedded 3 images; the vectors of 9 were there already." in capsys.readouterr().out
    store, h = expected(encoder, photos)
    assert table.names == list(store.names)
    assert table.metadata["coview.fingerprint"] == store.fingerprint == table.fingerprint
    assert np.allclose(table.vectors("h"), h, atol=1e-5)


def test_windows_and_groups_do_not_change_the_table(encoder, photos, monkeypatch, embedded):
    whole = coview.embed(encoder, photos, device="cpu", out=encoder / "whole.parquet")
    monkeypatch.setattr(embed_rows, "WINDOW", 5)
    monkeypatch.setattr(embed_rows, "BATCH", 3)
    monkeypatch.setattr("coview.embeddings.table_writer.GROUP_ROWS", 4)
    parts = coview.embed(encoder, photos, device="cpu", out=encoder / "parts.parquet")
    assert parts.num_groups > 1
    assert parts.names == whole.names
    assert np.allclose(parts.vectors("h"), whole.vectors("h"), atol=1e-5)
    for number in (20, 25, 31):
        draw(photos / "a" / f"{number:02}.png", number)
    embedded.clear()
    parts = coview.embed(encoder, photos, device="cpu", out=encoder / "parts.parquet")
    assert len(embedded) == 3
    assert np.allclose(parts.vectors("h"), expected(encoder, photos)[1], atol=1e-5)


def test_rows_are_in_order_where_equal_pixels_are_in_new_files(encoder, photos, monkeypatch):
    """Known and new rows of one batch, which reaches over the border of a window."""
    coview.embed(encoder, photos, device="cpu")
    touch_all(photos)
    for number in (20, 25, 31):
        draw(photos / "a" / f"{number:02}.png", number)
    monkeypatch.setattr(embed_rows, "WINDOW", 4)
    table = coview.embed(encoder, photos, device="cpu")
    store, h = expected(encoder, photos)
    assert table.names == list(store.names)
    assert np.allclose(table.vectors("h"), h, atol=1e-5)
    assert table.fingerprint == store.fingerprint


def test_a_name_that_is_not_utf8_has_no_path(encoder, photos, tmp_path):
    odd = odd_file(photos / "a").name
    draw(photos / "a" / odd, 50)
    table = coview.embed(encoder, photos, device="cpu")
    row = table.paths.index(None)
    assert (table.names[row], table.paths.count(None)) == (r"a/\udcff.png", 1)
    (result,) = coview.search(encoder, photos / "a" / "00.png", in_=photos, number=20)
    assert [hit.path for hit in result.hits].count(None) == 1
    with pytest.raises(DataError, match=r"a/\\udcff\.png cannot be copied: its path is not UTF-8"):
        coview.select(encoder, photos, number=13, copy_to=tmp_path / "copies")
    coview.browse(encoder, photos, out=tmp_path / "page.html")


def test_memory_holds_as_many_images_of_ten_times_as_many(encoder, photos, tmp_path, monkeypatch):
    """Pixels of some batches and vectors of one window are alive at a time, whatever the number."""
    monkeypatch.setattr(embed_rows, "BATCH", 2)
    monkeypatch.setattr(embed_rows, "WINDOW", 4)
    monkeypatch.setattr("coview.embeddings.table_writer.GROUP_ROWS", 4)
    alive, most = {"pixels": 0, "vectors": 0}, {"pixels": 0, "vectors": 0}

    def watch(kind, array):
        alive[kind] += 1
        most[kind] = max(most[kind], alive[kind])

        def gone():
            alive[kind] -= 1

        weakref.finalize(array, gone)

    whole_part, whole_columns = ImageStream._part, embed_rows.columns_of

    def part(stream, images):
        rows, store = whole_part(stream, images)
        watch("pixels", store.pixels)
        return rows, store

    def columns(job, block):
        watch("vectors", block["h"])
        return whole_columns(job, block)

    monkeypatch.setattr(ImageStream, "_part", part)
    monkeypatch.setattr(embed_rows, "columns_of", columns)
    peaks = []
    for name, count in (("few", 12), ("many", 120)):
        for number in range(count):
            draw(tmp_path / name / f"{number:03}.png", number, side=6)
        for more in (0, 1):  # new images; then the same in new files, and one more
            if more:
                draw(tmp_path / name / "999.png", 999, side=6)
                touch_all(tmp_path / name)
            most.update(pixels=0, vectors=0)
            table = coview.embed(
                encoder, tmp_path / name, device="cpu", out=tmp_path / f"{name}.parquet"
            )
            assert len(table) == count + more
            peaks.append(dict(most))
    assert all(0 < peak["pixels"] <= 6 for peak in peaks), peaks  # of 6 and of 60 batches
    assert all(0 < peak["vectors"] <= 3 for peak in peaks), peaks  # of 3 and of 30 windows


def test_an_interrupted_call_keeps_what_it_has_embedded(encoder, photos, embedded, monkeypatch):
    monkeypatch.setattr(embed_rows, "BATCH", 4)
    monkeypatch.setattr(embed_journal, "SAVE_BYTES", 1)
    whole = embed_rows.vectors_of_parts

    def interrupted(*args, **options):
        for number, each in enumerate(whole(*args, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(embed_rows, "vectors_of_parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coview.embed(encoder, photos, device="cpu")
    folder = encoder / "embeddings"
    assert [path.name for path in folder.iterdir()] == [".photos.unfinished"]
    embedded.clear()
    table = coview.embed(encoder, photos, device="cpu")
    assert len(embedded) == 4
    assert [path.name for path in folder.iterdir()] == ["photos.parquet"]
    assert np.allclose(table.vectors("h"), expected(encoder, photos)[1], atol=1e-5)


def test_a_table_of_other_weights_or_changed_rows_is_not_used(
    encoder, photos, embedded, tmp_path, capsys
):
    out = tmp_path / "x.parquet"
    coview.embed(encoder, photos, device="cpu", out=out)
    plain = pq.read_table(out)
    pq.write_table(plain.take(list(range(11, -1, -1))), out)  # rows in another order
    embedded.clear()
    table = coview.embed(encoder, photos, device="cpu", out=out)
    assert len(embedded) == 12
    assert "it is replaced" in capsys.readouterr().out
    assert table.names == sorted(table.names)
    other = small_export(tmp_path / "other", seed=1)
    embedded.clear()
    coview.embed(other, photos, device="cpu", out=out)
    assert len(embedded) == 12
    with pytest.raises(InvalidValue, match="whose weights are others"):
        embeddings_of(encoder, out)
    assert embeddings_of(other, out).names == table.names


def test_pictures_are_added_without_embedding_again(encoder, photos, embedded):
    coview.embed(encoder, photos, device="cpu")
    embedded.clear()
    table = coview.embed(encoder, photos, device="cpu", images=True)
    assert embedded == []
    picture = table.column("image")[3]
    assert picture["bytes"][:2] == b"\xff\xd8"
    assert picture["path"] == table.names[3]
    assert coview.embed(encoder, photos, device="cpu").column_names == table.column_names


def test_one_image_a_list_and_the_standard_input(encoder, photos, monkeypatch, capsys, tmp_path):
    whole = coview.embed(encoder, photos, device="cpu")
    paths = [str(path) for path in whole.paths[:3]]
    assert main(["embed", str(encoder), paths[0], "--device", "cpu"]) == 0
    assert main(["embed", str(encoder), *paths, "--out", str(tmp_path / "three.npy")]) == 0
    assert np.allclose(np.load(tmp_path / "three.npy"), whole.vectors("h")[:3], atol=1e-5)

    monkeypatch.setattr("sys.stdin", standard_input("\r\n".join(paths).encode()))
    out = tmp_path / "lines.csv"
    assert main(["embed", str(encoder), "-", "--format", "csv", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 4


def standard_input(content):
    """What a pipe gives, as UTF-8 is read under a strict locale."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_names_that_are_no_text_come_in_on_the_standard_input(encoder, photos, monkeypatch):
    odd = odd_file(photos)
    draw(odd, 50)
    paths = [os.fsencode(odd), os.fsencode(photos / "a" / "00.png")]
    for between in (b"\n", b"\0"):
        monkeypatch.setattr("sys.stdin", standard_input(between.join(paths)))
        table = coview.embed(encoder, "-", device="cpu")
        assert table.names == ["a/00.png", r"\udcff.png"]


def test_images_in_memory_are_kept_nowhere_unless_a_file_is_named(encoder, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
    table = coview.embed(encoder, images, device="cpu")
    assert table.path is None
    assert not (encoder / "embeddings").exists()
    assert table.paths == [None] * 5
    named = coview.embed(encoder, images, device="cpu", out=tmp_path / "x.parquet")
    assert np.array_equal(named.vectors("h"), table.vectors("h"))


def test_broken_files_are_named_and_too_many_refused(encoder, photos):
    (photos / "a" / "broken.png").write_bytes(b"no image")
    table = coview.embed(encoder, photos, device="cpu")
    assert len(table) == 12
    left_out = json.loads(table.metadata["coview.left_out"])
    assert [name for name, _ in left_out] == ["a/broken.png"]
    for number in range(9):
        (photos / "a" / f"broken{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="10 of 22 images"):
        coview.embed(encoder, photos, device="cpu")
    assert len(EmbeddingTable.open(table.path)) == 12  # the table before


def test_some_of_the_images_of_a_table_are_refused(encoder, photos):
    table = coview.embed(encoder, photos)
    for use in (coview.map, coview.browse):
        with pytest.raises(InvalidValue, match="`limit` has no effect on a table of vectors"):
            use(encoder, table.path, limit=5)
    with pytest.raises(InvalidValue, match="`split` has no effect"):
        coview.search(encoder, photos / "a" / "00.png", in_=table, split="test")


def test_no_layer_is_one_sentence(encoder, photos):
    with pytest.raises(InvalidValue, match="`layers` is empty"):
        coview.embed(encoder, photos, layers="")
    assert not (encoder / "embeddings").exists()


def test_a_run_that_may_not_be_written_still_embeds(encoder, photos, monkeypatch, capsys):
    def refuse(path, endings):
        raise StorageError("read-only")

    monkeypatch.setattr(sys.modules["coview.runs.embed"], "output_file", refuse)
    table = coview.embed(encoder, photos, device="cpu")
    assert (table.path, len(table)) == (None, 12)
    assert "not kept" in capsys.readouterr().out


def test_what_others_have_added_stays_while_the_images_are_the_same(encoder, photos, capsys):
    table = coview.embed(encoder, photos)
    table.with_columns({"x": np.arange(12.0)}).write(table.path)
    pictured = coview.embed(encoder, photos, images=True)
    assert pictured["x"].tolist() == list(range(12))
    assert "image" in pictured.column_names
    draw(photos / "a" / "99.png", 99)
    capsys.readouterr()
    more = coview.embed(encoder, photos)
    assert "The columns x are left out" in capsys.readouterr().out
    assert "x" not in more.column_names
    assert len(more["image"]) == 13


def test_some_of_the_images_have_a_table_of_their_own(encoder, photos, embedded):
    """A limited call takes the vectors that are known, and the table of all images stays."""
    whole = coview.embed(encoder, photos)
    content = whole.path.read_bytes()
    embedded.clear()
    some = coview.embed(encoder, photos, limit=5)
    assert embedded == []
    assert some.path == whole.path.with_name("photos-limit-5.parquet")
    assert (len(some), len(EmbeddingTable.open(whole.path))) == (5, 12)
    places = [whole.names.index(name) for name in some.names]
    assert np.array_equal(some.vectors("h"), whole.vectors("h")[places])
    query = photos / "a" / "00.png"
    coview.search(encoder, query, in_=photos, limit=4, number=2)
    coview.select(encoder, photos, limit=3, number=2)
    assert whole.path.read_bytes() == content
    assert embedded == []
    draw(photos / "a" / "00.png", 100)  # changed: the known vector is of another image
    coview.embed(encoder, photos, limit=12)
    assert embedded == ["a/00.png"]


def test_the_table_of_all_images_takes_the_vectors_of_some(encoder, photos, embedded):
    coview.embed(encoder, photos, limit=5)
    coview.embed(encoder, photos, limit=5, out=encoder / "named.csv")
    assert len(embedded) == 5
    assert len(coview.embed(encoder, photos)) == 12
    assert len(embedded) == len(set(embedded)) == 12


def test_parts_of_one_folder_have_a_table_each(encoder, tmp_path, embedded):
    for part, first, count in (("train", 0, 4), ("test", 10, 3)):
        for number in range(count):
            draw(tmp_path / "parts" / part / "a" / f"{number}.png", first + number)
    for _ in range(2):
        for part, count in (("train", 4), ("test", 3)):
            assert len(coview.embed(encoder, tmp_path / "parts", split=part)) == count
    assert len(embedded) == 7
    assert sorted(path.name for path in (encoder / "embeddings").iterdir()) == [
        "parts-test.parquet", "parts-train.parquet",
    ]  # fmt: skip


def test_tables_of_other_images_beside_are_not_read(encoder, photos, embedded, tmp_path):
    coview.embed(encoder, photos, limit=5)
    other = shutil.copytree(photos, tmp_path / "more" / "photos")
    embedded.clear()
    coview.embed(encoder, other, limit=5)
    assert len(embedded) == 5
    assert len(list((encoder / "embeddings").iterdir())) == 2


def interrupted_after(batches, monkeypatch, *args, **options):
    """A call that is interrupted when so many batches are embedded."""
    whole = embed_rows.vectors_of_parts

    def interrupted(*args, **options):
        for number, each in enumerate(whole(*args, **options)):
            if number == batches:
                raise KeyboardInterrupt
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(embed_rows, "vectors_of_parts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coview.embed(*args, **options)


@pytest.fixture
def small_files(monkeypatch):
    """A file of new vectors for each batch of one image."""
    monkeypatch.setattr(embed_rows, "BATCH", 1)
    monkeypatch.setattr(embed_journal, "SAVE_BYTES", 1)


@pytest.mark.parametrize("images", [False, True])
def test_many_files_of_interrupted_calls_are_joined(
    encoder, photos, embedded, monkeypatch, small_files, images
):
    monkeypatch.setattr(embed_journal, "MOST", 4)
    interrupted_after(10, monkeypatch, encoder, photos, device="cpu", images=images)
    folder = encoder / "embeddings" / ".photos.unfinished"
    assert len(list(folder.iterdir())) == 10
    interrupted_after(1, monkeypatch, encoder, photos, device="cpu", images=images)
    assert len(list(folder.iterdir())) == 3  # two of five, and a new one
    embedded.clear()
    table = coview.embed(encoder, photos, device="cpu", images=images)
    assert len(embedded) == 1
    store, h = expected(encoder, photos)
    assert table.names == list(store.names)
    assert np.allclose(table.vectors("h"), h, atol=1e-5)
    assert table.paths == [photos / name for name in store.names]
    assert not folder.exists()


def test_new_vectors_of_another_process_stay(encoder, photos, monkeypatch, small_files):
    """Of one that runs; those of one that has ended are deleted."""
    interrupted_after(1, monkeypatch, encoder, photos, device="cpu")
    folder = encoder / "embeddings" / ".photos.unfinished"
    (left,) = folder.iterdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = process_started(process.pid)
        if not start:
            pytest.skip("this system does not say which processes run")
        own = f"-{os.getpid()}-{process_started(os.getpid())}-"
        other = left.rename(left.with_name(left.name.replace(own, f"-{process.pid}-{start}-")))
        coview.embed(encoder, photos, device="cpu")
        assert list(folder.iterdir()) == [other]
        process.communicate(b"\n")
    draw(photos / "a" / "99.png", 99)
    coview.embed(encoder, photos, device="cpu")
    assert not folder.exists()


def test_a_long_list_is_in_its_table_once(encoder, photos, monkeypatch, embedded):
    monkeypatch.setattr(embed_job, "LONG", 100)
    paths = sorted(map(str, photos.rglob("*.png")))
    table = coview.embed(encoder, paths, device="cpu")
    assert not any(paths[0] in text for text in table.metadata.values())
    again = images_of_table(table)
    assert sorted(again.source) == paths
    assert [*again.open().names] == table.names
    embedded.clear()
    coview.embed(encoder, paths, device="cpu")
    assert embedded == []
    other = coview.embed(encoder, paths[:8], device="cpu")
    assert (other.path != table.path, len(other)) == (True, 8)


def test_a_table_that_cannot_be_read_replaces_nothing(encoder, photos, monkeypatch, small_files):
    """Nor do the new vectors go."""
    coview.embed(encoder, photos, device="cpu")
    path = encoder / "embeddings" / "photos.parquet"
    before = path.read_bytes()
    draw(photos / "a" / "99.png", 99)

    def damaged(writer):
        raise DamagedFile("not readable")

    with monkeypatch.context() as patch, pytest.raises(DamagedFile):
        patch.setattr(embed_rows.TableWriter, "table", damaged)
        coview.embed(encoder, photos, device="cpu")
    assert path.read_bytes() == before
    assert len(list((path.parent / ".photos.unfinished").iterdir())) == 1


def test_columns_stay_where_the_second_writing_fails(encoder, photos, monkeypatch):
    table = coview.embed(encoder, photos, device="cpu")
    table.with_columns({"x": np.arange(12.0)}).write(table.path)

    def full(table, path):
        raise StorageError("full")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="full"):
        patch.setattr(EmbeddingTable, "write", full)
        coview.embed(encoder, photos, device="cpu", images=True)
    assert "x" in EmbeddingTable.open(table.path).column_names
    assert [path.name for path in table.path.parent.iterdir()] == ["photos.parquet"]
    assert coview.embed(encoder, photos, device="cpu", images=True)["x"].tolist() == [*range(12)]


def meanwhile(monkeypatch, work):
    """Do ``work`` when a call has embedded its first images."""
    whole = embed_rows.vectors_of_parts

    def other(*args, **options):
        for number, each in enumerate(whole(*args, **options)):
            if number == 0:
                monkeypatch.setattr(embed_rows, "vectors_of_parts", whole)
                work()
            yield each

    monkeypatch.setattr(embed_rows, "vectors_of_parts", other)


def test_columns_that_come_while_a_call_embeds_stay(encoder, photos, monkeypatch):
    table = coview.embed(encoder, photos, device="cpu")
    x = {"x": np.arange(12.0)}
    meanwhile(monkeypatch, lambda: table.with_columns(x).write(table.path))
    touch_all(photos)
    now = coview.embed(encoder, photos, device="cpu")
    assert now["x"].tolist() == [*range(12)]


def test_columns_that_come_just_after_the_table_was_opened_stay(encoder, photos, monkeypatch):
    table = coview.embed(encoder, photos, device="cpu")
    known_table = embed_rows.known_table

    def opened(*args):
        monkeypatch.setattr(embed_rows, "known_table", known_table)
        before = known_table(*args)
        table.with_columns({"x": np.arange(12.0)}).write(table.path)
        return before

    monkeypatch.setattr(embed_rows, "known_table", opened)
    touch_all(photos)
    assert coview.embed(encoder, photos, device="cpu")["x"].tolist() == [*range(12)]


def test_vectors_that_come_while_a_call_embeds_stay(encoder, photos, monkeypatch, embedded):
    """The call that ends later is refused, and goes on when it is called again."""
    coview.embed(encoder, photos, device="cpu", limit=3)
    path = encoder / "embeddings" / "photos.parquet"

    def add():
        draw(photos / "a" / "99.png", 99)
        coview.embed(encoder, photos, device="cpu")

    meanwhile(monkeypatch, add)
    with pytest.raises(StorageError, match="was changed by another command meanwhile"):
        coview.embed(encoder, photos, device="cpu")
    assert len(EmbeddingTable.open(path)) == 13
    embedded.clear()
    assert len(coview.embed(encoder, photos, device="cpu")) == 13
    assert embedded == []

"""An index in a file: its recall against exact search, and whose vectors it is of."""

import builtins
import threading

import numpy as np
import pytest

from coview.core.errors import MissingExtra, StorageError
from coview.embeddings import index as indexes
from coview.embeddings.index import build_index, open_index, require_usearch, vectors_digest
from coview.embeddings.search import nearest_rows, unit_vectors

COUNT, WIDTH = 3_000, 32


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("usearch")
    points = np.random.default_rng(0).standard_normal((COUNT, 12), dtype=np.float32)
    weights = np.random.default_rng(1).standard_normal((12, WIDTH), dtype=np.float32)
    return np.maximum(points @ weights, 0)


@pytest.fixture
def built(rows, tmp_path):
    path = tmp_path / "x.h.usearch"
    build_index(path, [rows[:1_100], rows[1_100:]], count=COUNT, width=WIDTH, version=(1, 2))
    return path


def never():
    raise AssertionError("the vectors were read")


def test_at_least_98_of_100_nearest_are_found_with_exact_cosines(rows, built):
    queries = unit_vectors(rows[:100] + 0.3)
    cosines, truth = nearest_rows(unit_vectors(rows), queries, 10)
    found = open_index(built, (1, 2), never).nearest_rows(queries, 10)
    share = [np.isin(truth[n], found[n][1]).mean() for n in range(len(queries))]
    assert np.mean(share) >= 0.98
    for number, (values, nearest) in enumerate(found):
        expected = unit_vectors(rows)[nearest] @ queries[number]
        assert np.allclose(values, expected, atol=1e-6)
        assert (np.diff(values) <= 0).all()
    complete = [number for number, part in enumerate(share) if part == 1]
    assert all(np.allclose(found[n][0], cosines[n], atol=1e-6) for n in complete)


def test_vectors_of_rows_are_those_of_the_table(rows, built):
    index = open_index(built, (1, 2), never)
    chosen = np.array([2_999, 0, 1_100])
    assert len(index) == COUNT
    assert np.allclose(index.vectors(chosen), unit_vectors(rows)[chosen], atol=1e-7)
    assert index.vectors(chosen[:0]).shape == (0, WIDTH)


def test_an_index_of_other_vectors_is_not_opened(rows, built):
    changed = rows.copy()
    changed[7, 3] += 1e-4
    assert open_index(built, (1, 3), lambda: vectors_digest([changed], WIDTH)) is None
    assert open_index(built, None, lambda: vectors_digest([changed], WIDTH)) is None


def test_a_copied_table_keeps_its_index_and_is_hashed_once(rows, built):
    assert open_index(built, (1, 3), lambda: vectors_digest([rows], WIDTH)) is not None
    assert open_index(built, (1, 3), never) is not None


def test_the_hash_tells_widths_and_values_but_not_parts(rows):
    known = vectors_digest([rows], WIDTH)
    assert vectors_digest([rows[:5], rows[5:]], WIDTH) == known
    assert vectors_digest([rows.reshape(-1, WIDTH * 2)], WIDTH * 2) != known


def test_a_damaged_file_is_no_index(built):
    content = built.read_bytes()
    for name, damaged in {
        "short": content[:-100],
        "stamp alone": content[-indexes.STAMP_BYTES :],
        "empty": b"",
        "no stamp": content[: -indexes.STAMP_BYTES],
        "stamp half written": content[:-4_000] + b" " * 4_000,
        "other graph": b"z" * (len(content) - indexes.STAMP_BYTES)
        + content[-indexes.STAMP_BYTES :],
    }.items():
        path = built.with_name(f"{name}.usearch")
        path.write_bytes(damaged)
        assert open_index(path, (1, 2), never) is None, name
    assert open_index(built.with_name("absent"), (1, 2), never) is None


def test_an_interrupted_build_leaves_nothing(rows, tmp_path):
    def parts():
        yield rows[:1_100]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "x", parts(), count=COUNT, width=WIDTH, version=None)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_storage_error(rows, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        build_index(tmp_path / "file" / "x", [rows[:9]], count=9, width=WIDTH, version=None)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    known = builtins.__import__
    here = threading.get_ident()

    def absent(name, *rest, **named):
        if name.startswith("usearch") and threading.get_ident() == here:
            raise ImportError(name)
        return known(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"'usearch'.*pip install 'coview\[index\]'"):
        require_usearch()

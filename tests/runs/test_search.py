"""`coview search` as a user types it, on an encoder with random weights."""

import csv
import json
import re
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError
from coview.data import open_images
from coview.embeddings import EmbeddingTable
from coview.evaluation import extract
from coview.runs.load import load_subject
from coview.runs.search_queries import Queries
from small_run import odd_file, small_export


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((20, 24)).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an encoder, photos/ of two classes, and query.png, which is not among them."""
    folder = tmp_path_factory.mktemp("search")
    small_export(folder / "encoder")
    for number in range(14):
        draw(folder / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    (folder / "photos" / "b" / "copy.png").write_bytes(
        (folder / "photos" / "a" / "04.png").read_bytes()
    )
    draw(folder / "query.png", 99)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def slow_cosines(place, query):
    """(names, cosines of all photos with the query), without any table."""
    subject = load_subject(place / "encoder")
    h = [extract(subject, open_images(each, short_side=256)) for each in (place / "photos", query)]
    store = open_images(place / "photos", short_side=256)
    bank, one = (features.layers["h"].double().numpy() for features in h)
    return store.names, [
        float(row @ one[0] / np.linalg.norm(row) / np.linalg.norm(one[0])) for row in bank
    ]


def test_the_nearest_are_found_with_scores_and_paths(here):
    (result,) = coview.search("encoder", "query.png", in_="photos", number=4, device="cpu")
    names, cosines = slow_cosines(here, here / "query.png")
    order = sorted(range(len(names)), key=lambda row: -cosines[row])[:4]
    assert [hit.name for hit in result.hits] == [names[row] for row in order]
    assert np.allclose(
        [hit.score for hit in result.hits], [cosines[row] for row in order], atol=1e-5
    )
    assert result.hits[0].path == here / "photos" / result.hits[0].name
    assert result.hits[0].class_name == result.hits[0].name[0]


def test_a_query_among_the_images_is_marked_and_does_not_count(here):
    (result,) = coview.search("encoder", "photos/a/04.png", in_="photos", number=3, device="cpu")
    assert [hit.mark for hit in result.hits] == ["the query", "same pixels", "", ""]
    assert [hit.name for hit in result.hits[:2]] == ["a/04.png", "b/copy.png"]
    assert np.allclose([hit.score for hit in result.hits[:2]], 1, atol=1e-5)


def test_each_query_has_a_result_in_the_given_order(here):
    queries = ["photos/b/03.png", "query.png", "photos/a/02.png"]
    results = coview.search("encoder", queries, in_="photos", number=2, device="cpu")
    assert [result.query for result in results] == queries
    assert [result.hits[0].name for result in results[::2]] == ["b/03.png", "a/02.png"]


def test_examples_together_and_negative_ones(here):
    queries = ["photos/b/03.png", "photos/b/05.png"]
    (result,) = coview.search(
        "encoder", queries, in_="photos", number=3, together=True, device="cpu"
    )
    assert [hit.mark for hit in result.hits].count("an example") == 2
    (without,) = coview.search(
        "encoder", queries, in_="photos", number=3, negative="photos/a/02.png", device="cpu"
    )
    assert without.query == "photos/b/03.png, photos/b/05.png, unlike photos/a/02.png"
    score = {hit.name: hit.score for hit in (*result.hits, *without.hits)}
    assert score["b/03.png"] < 1


def test_many_examples_are_not_all_in_the_name_of_their_search(here, tmp_path):
    (result,) = coview.search(
        "encoder", "photos/b", in_="photos", negative="photos/a/02.png", html=tmp_path / "x.html"
    )
    assert result.query == "01.png, 03.png, 05.png and 5 more, unlike photos/a/02.png"
    page = (tmp_path / "x.html").read_text()
    assert re.search("<h2[^>]*>8 examples, unlike 1 other</h2>", page)
    assert "<nav" not in page  # one section


def test_the_command_prints_a_table_csv_json_and_a_page(here, tmp_path, capsys):
    words = [
        "search",
        "encoder",
        "photos/a/04.png",
        "--in",
        "photos",
        "--number",
        "3",
        "--device",
        "cpu",
    ]
    page, table = tmp_path / "x.html", tmp_path / "x.csv"
    assert main([*words, "--html", str(page), "--out", str(table)]) == 0
    text = capsys.readouterr().out
    assert "Nearest to photos/a/04.png" in text
    assert "same pixels" in text
    assert " photos/a/04.png (the query)" in text  # as it was given, though the paths are absolute
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["rank"] for row in rows] == ["0", "1", "2", "3"]
    html = page.read_text()
    assert html.count("data:image/jpeg") == 5  # the query and what was found
    assert "a, the query" in html  # the class and the mark
    assert "its cosine to the query" in html
    assert all(f"{float(row['score']):.4f}" in html for row in rows)
    assert not re.search(r"(src|href)=.?https?:", html)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["mark"] == "same pixels"


def test_a_query_whose_name_is_no_text_is_spelled_out(here, tmp_path, capsys):
    odd = odd_file(tmp_path)
    draw(odd, 50)
    page, table = tmp_path / "x.html", tmp_path / "x.csv"
    words = ["search", "encoder", str(odd), "--in", "photos", "--device", "cpu", "--number", "2"]
    assert main([*words, "--html", str(page), "--out", str(table)]) == 0
    assert r"\xff.png" in capsys.readouterr().out
    assert all(r"\udcff.png" in path.read_text(encoding="utf-8") for path in (page, table))
    assert main([*words, "--json"]) == 0


def test_pictures_of_queries_are_kept_for_a_page_alone(here, monkeypatch):
    """In the size of the page; the decoded images of a batch are gone with it."""
    opened = []
    open_ = Queries.open.__func__

    def spy(cls, *args):
        opened.append(open_(cls, *args))
        return opened[-1]

    monkeypatch.setattr(Queries, "open", classmethod(spy))
    monkeypatch.setattr("coview.runs.search_queries.SIDE", 10)
    words = ("encoder", ["query.png", "photos/a/02.png"])
    coview.search(*words, in_="photos", number=1, device="cpu")
    coview.search(*words, in_="photos", number=1, device="cpu", html=here / "small.html")
    assert [[p.shape for p in each.pictures] for each in opened] == [[], [(10, 8, 3)] * 2]
    assert np.array_equal(opened[0].vectors, opened[1].vectors)


def test_a_table_is_searched_without_its_images(here, tmp_path):
    table = coview.embed("encoder", "photos", out=tmp_path / "x.parquet", device="cpu")
    (result,) = coview.search("encoder", "query.png", in_=table.path, number=2, device="cpu")
    assert len(result.hits) == 2
    (again,) = coview.search("encoder", "query.png", in_=table, number=2, device="cpu")
    assert [hit.name for hit in again.hits] == [hit.name for hit in result.hits]


def test_a_page_has_the_pictures_that_are_still_there(here, tmp_path):
    def pictures(**options):
        coview.search("encoder", "query.png", number=4, html=tmp_path / "x.html", **options)
        return (tmp_path / "x.html").read_text().count("data:image/jpeg") - 1  # but the query

    shutil.copytree("photos", tmp_path / "gone")
    table = coview.embed("encoder", tmp_path / "gone", out=tmp_path / "x.parquet").path
    assert pictures(in_=table) == 4
    coview.search("encoder", "query.png", in_=table)[0].hits[0].path.unlink()
    assert pictures(in_=table) == 3
    for path in (tmp_path / "gone").rglob("*.png"):
        path.unlink()
    assert pictures(in_=table) == 0
    images = [np.asarray(Image.open(path)) for path in sorted((here / "photos").rglob("*.png"))]
    assert pictures(in_=images) == 4  # in memory
    rows = [{"image": {"bytes": path.read_bytes(), "path": path.name}, "y": 1}
            for path in sorted((here / "photos").rglob("*.png"))]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images.parquet")
    table = coview.embed("encoder", tmp_path / "images.parquet", out=tmp_path / "y.parquet")
    assert pictures(in_=tmp_path / "images.parquet") == pictures(in_=table.path) == 4


def test_queries_that_cannot_be_read_are_one_sentence(here, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for query in (
        ["nowhere.png"],
        [str(broken)],
        ["query.png", "nowhere.png"],
        [str(broken), "query.png"],
    ):
        assert main(["search", "encoder", *query, "--in", "photos", "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert ("nowhere.png" if "nowhere.png" in query else "broken.png") in error
        assert error.count("\n") == 1
    with pytest.raises(RunError, match="`in_`"):
        coview.search("encoder", "query.png", device="cpu")
    with pytest.raises(DataError, match="cannot be read"):
        coview.search("encoder", str(broken), in_="photos", device="cpu")


def test_a_folder_is_one_query_of_examples_or_none(here):
    with pytest.raises(InvalidValue, match=r"photos/a, a folder.*`together`.*photos/a/\*\.jpg"):
        coview.search("encoder", "photos/a", in_="photos", device="cpu")
    results = coview.search("encoder", "photos/a", in_="photos", together=True, device="cpu")
    assert [hit.mark for result in results for hit in result.hits].count("an example") == 7


@pytest.fixture
def kept(here, tmp_path):
    """The table of the photos in a folder of the test's own, which may hold an index."""
    pytest.importorskip("usearch")
    return coview.embed("encoder", "photos", out=tmp_path / "x.parquet", device="cpu").path


@pytest.mark.parametrize("query", ["query.png", "photos/a/04.png"])
def test_an_index_finds_what_exact_search_finds(kept, query, capsys):
    """Of 15 images every one is a candidate, so that both must agree."""
    (exact,) = coview.search("encoder", query, in_=kept, number=4, device="cpu")
    (found,) = coview.search("encoder", query, in_=kept, number=4, index=True, device="cpu")
    assert [(hit.name, hit.mark) for hit in found.hits] == [
        (hit.name, hit.mark) for hit in exact.hits
    ]
    assert np.allclose(
        [hit.score for hit in found.hits], [hit.score for hit in exact.hits], atol=1e-6
    )
    assert "approximate: nearer images may be missing" in capsys.readouterr().out


def test_an_index_is_built_once_and_again_for_a_changed_table(kept, capsys):
    def search():
        coview.search("encoder", "query.png", in_=kept, number=2, index=True, device="cpu")
        return capsys.readouterr().out

    assert "An index of 15 images is built once" in search()
    place = kept.with_name("x.h.usearch")
    before = place.read_bytes()
    assert "built" not in search()
    assert place.read_bytes() == before
    EmbeddingTable.open(kept).with_columns({"cluster": np.zeros(15, int)}).write(kept)
    assert "built" not in search()  # a further column changes no vector
    coview.embed("encoder", "photos", limit=9, out=kept, device="cpu")
    assert "An index of 9 images is built once in place of one of other vectors" in search()


def test_the_page_of_an_approximate_search_says_so(kept, tmp_path):
    words = ["search", "encoder", "query.png", "--in", str(kept), "--device", "cpu"]
    page = tmp_path / "x.html"
    assert main([*words, "--html", str(page), "--index"]) == 0
    assert "The search was approximate" in page.read_text()
    assert main([*words, "--html", str(page)]) == 0
    assert "approximate" not in page.read_text()


def test_an_index_without_its_package_or_of_a_table_in_memory_is_one_sentence(
    kept, monkeypatch, capsys
):
    table = EmbeddingTable.open(kept)
    table.path = None
    with pytest.raises(InvalidValue, match="needs a table that is a file"):
        coview.search("encoder", "query.png", in_=table, index=True, device="cpu")
    monkeypatch.setitem(sys.modules, "usearch", None)
    words = ["search", "encoder", "query.png", "--in", str(kept), "--index"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "pip install 'coview[index]'" in error
    assert error.count("\n") == 1

"""The server: right replies to its own page, nothing to anybody else."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_table import annotations_of, drawn
from PIL import Image

from coview.browsing import Annotation, BrowseServer
from coview.browsing.server import MAX_BODY
from coview.browsing.thumbnails import Thumbnails
from coview.core.errors import DataError, InvalidValue

COLLECTION = drawn()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrowseServer]:
    with BrowseServer(COLLECTION, annotations_of(COLLECTION, tmp_path / "tags.csv")) as running:
        yield running


def versioned(server: BrowseServer, address: str) -> str:
    """The address as the page of ``server`` asks for it."""
    return f"{address}{'&' if '?' in address else '?'}v={server.version}"


def ask(
    server: BrowseServer, address: str, body: bytes | None = None, **headers: str | None
) -> tuple[int, bytes, dict[str, str]]:
    """The reply to a request of the page itself, whose headers may be changed, or left out (None)."""
    port = server.port
    own = {
        "Host": f"127.0.0.1:{port}", "Cookie": f"a=b; coview-{port}={server.token}",
        **({} if body is None else {"Origin": f"http://127.0.0.1:{port}"}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }  # fmt: skip
    if "v=" not in address and not address.startswith("/?"):
        address = versioned(server, address)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET" if body is None else "POST", address, skip_host=True)
    if body is not None and "Content_Length" not in headers:
        own["Content-Length"] = str(len(body))
    for name, value in own.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, {key.lower(): value for key, value in reply.getheaders()}


def ask_json(server: BrowseServer, address: str, body: bytes | None = None) -> dict:
    status, content, _ = ask(server, address, body)
    assert status == 200, content
    return json.loads(content)


EVERYTHING = [
    ("/arrays", None), ("/thumb?row=0&size=96", None), ("/sheet?rows=0,1&size=64", None),
    ("/images?rows=0", None), ("/find?text=a", None), ("/neighbors?rows=0&k=3", None),
    ("/annotations", None), ("/similar?name=a.png&k=3", b"x"), ("/annotate", b"[]"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "body"), EVERYTHING)
def test_nothing_is_shown_without_the_token(
    server: BrowseServer, address: str, body: bytes | None
) -> None:
    assert ask(server, address, body)[0] == 200
    for cookie in (None, "coview=1", f"coview-{server.port}=wrong", f"coview-1={server.token}"):
        assert ask(server, address, body, Cookie=cookie)[0] == 403


@pytest.mark.parametrize(("address", "body"), [*EVERYTHING, ("/?token=TOKEN", None)])
def test_another_host_name_is_refused(
    server: BrowseServer, address: str, body: bytes | None
) -> None:
    """A page of another site can make its name mean 127.0.0.1, and then read what it loads."""
    address = address.replace("TOKEN", server.token)
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", None, "127.0.0.1:1"):
        assert ask(server, address, body, Host=host)[0] == 403
    assert ask(server, address, body, Host=f"localhost:{server.port}",
               Origin=f"http://localhost:{server.port}")[0] == 200  # fmt: skip


def test_another_origin_changes_nothing(server: BrowseServer) -> None:
    change = json.dumps([[0, "cat", [], []]]).encode()
    for origin in ("http://evil.example", "null", None, "http://127.0.0.1:1"):
        assert ask(server, "/annotate", change, Origin=origin)[0] == 403
    assert server.annotations.by_row == {}
    assert ask_json(server, "/annotate", change)["rows"] == [[0, "cat", []]]
    assert server.annotations.by_row == {0: Annotation("cat")}


def test_the_page_needs_its_token_and_sets_a_cookie(server: BrowseServer) -> None:
    assert ask(server, "/", Cookie=None)[0] == 403
    assert ask(server, "/?token=x", Cookie=None)[0] == 403
    status, content, headers = ask(server, f"/?token={server.token}", Cookie=None)
    assert status == 200
    assert b"<!doctype html>" in content
    cookie = headers["set-cookie"]
    assert cookie.startswith(f"coview-{server.port}={server.token};")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert b"&lt;b&gt;" not in content.split(b'id="about"')[1]
    assert b"<b>ring" not in content  # a class name is no markup
    assert ask(server, "/")[0] == 200


@pytest.mark.parametrize(("address", "body"), EVERYTHING)
def test_a_page_of_an_earlier_start_gets_and_changes_nothing(
    server: BrowseServer, tmp_path: Path, address: str, body: bytes | None
) -> None:
    port, version = server.port, server.version
    server.close()
    tags = annotations_of(COLLECTION, tmp_path / "others.csv")
    with BrowseServer(COLLECTION, tags, port=port) as other:
        old = f"{address}{'&' if '?' in address else '?'}v={version}"
        status, content, _ = ask(other, old, body)
        assert (status, content.endswith(b"load the page again.")) == (409, True)
        assert ask(other, address, body)[0] == 200


def test_an_address_for_a_browser_opens_once(server: BrowseServer) -> None:
    address = server.address_once()
    assert server.token not in address
    query = address[address.index("/?") :]
    status, _, headers = ask(server, query, Cookie=None)
    assert (status, server.token in headers["set-cookie"]) == (200, True)
    assert ask(server, query, Cookie=None)[0] == 403


def test_it_listens_on_this_machine_alone(server: BrowseServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "address",
    ["/../tags.csv", "/tags.csv", "/thumb/../../etc/passwd", "/thumb", "/thumb?row=0",
     "/thumb?row=90&size=96", "/thumb?row=-1&size=96", "/thumb?row=../a&size=96",
     "/thumb?row=1&row=2&size=96", "/thumb?row=0&size=9999", "/thumb?row=%D9%A3&size=96",
     "/thumb?row=1e3&size=96", "/sheet?rows=0,,1&size=64", "/neighbors?rows=0&k=0",
     "/sheet?size=64&rows=" + ",".join(["1"] * 257), "/images?rows=" + ",".join(["1"] * 1001)],
)  # fmt: skip
def test_what_the_page_does_not_ask_gets_an_error_and_no_file(
    server: BrowseServer, address: str
) -> None:
    status, content, headers = ask(server, address)
    assert status in (400, 404)
    assert len(content) < 300
    assert headers["content-type"].startswith("text/plain")


def test_bodies_are_bounded_and_checked(server: BrowseServer) -> None:
    assert ask(server, "/annotate", b"", Content_Length=str(MAX_BODY + 1))[0] == 413
    assert ask(server, "/annotate", b"", Content_Length="-1")[0] == 411
    for body in (b"{", b"{}" * 3, b"[[0]]", b'[["0","cat",[],[]]]', b'[[0,"cat",[1],[]]]',
                 b'[[0,1,[],[]]]', b'[[0,"cat",[]]]', b'[[0,null,"ab",[]]]', b'[[0,null,[],5]]',
                 b'[[900,"cat",[],[]]]', b'[[true,"cat",[],[]]]', b"[" * 5000):  # fmt: skip
        status, content, _ = ask(server, "/annotate", body)
        assert status == 400, body
        assert b"Traceback" not in content
    assert server.annotations.by_row == {}


def test_arrays_are_points_codes_and_scores(server: BrowseServer) -> None:
    _, content, _ = ask(server, "/arrays")
    count = len(COLLECTION)
    points = np.frombuffer(content, "<f4", 2 * count).reshape(count, 2)
    codes = np.frombuffer(content, "<i4", 2 * count, offset=8 * count).reshape(2, count)
    scores = np.frombuffer(content, "<f4", count, offset=16 * count)
    assert np.array_equal(points, COLLECTION.points)
    assert np.array_equal(codes[0], COLLECTION.store.labels)
    assert np.array_equal(codes[1], COLLECTION.facets[1].codes)
    assert np.array_equal(scores, COLLECTION.scores["outlier score"])


def test_a_thumbnail_is_the_image(server: BrowseServer) -> None:
    _, content, headers = ask(server, "/thumb?row=7&size=256")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (32, 24)
        difference = np.asarray(picture).astype(int) - COLLECTION.store.image(7)
    assert np.abs(difference).mean() < 12
    assert "max-age" in headers["cache-control"]


def test_a_sheet_holds_the_center_squares_in_order(server: BrowseServer) -> None:
    rows = [3, 40, 8, *range(20)]
    _, content, _ = ask(server, f"/sheet?rows={','.join(map(str, rows))}&size=48")
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (2 * 48, 16 * 48, 3)
    for place, row in enumerate(rows):
        top, left = place // 16 * 48, place % 16 * 48
        tile = pixels[top : top + 48, left : left + 48].mean(axis=(0, 1))
        square = COLLECTION.store.image(row)[:, 4:28].mean(axis=(0, 1))
        assert np.abs(tile - square).max() < 8


def test_an_image_that_is_gone_leaves_the_others_on_their_sheet(tmp_path: Path) -> None:
    def decode(places: np.ndarray) -> list[np.ndarray]:
        if 3 in places:
            raise DataError("It has changed.")
        return [np.full((24 * 32, 4), 200, np.uint8) for _ in places]

    store = replace(COLLECTION.store, starts=np.arange(len(COLLECTION)), decoder=decode)
    collection = replace(COLLECTION, store=store)
    with BrowseServer(collection, annotations_of(collection, tmp_path / "t.csv")) as server:
        status, content, headers = ask(server, "/sheet?rows=2,3,4&size=48")
        assert ask(server, "/sheet?rows=2,4&size=48")[2]["cache-control"] != "no-store"
    with Image.open(io.BytesIO(content)) as picture:
        means = [np.asarray(picture)[:, k * 48 : k * 48 + 48].mean() for k in range(3)]
    assert status == 200
    assert headers["cache-control"] == "no-store"
    assert abs(means[0] - 200) < 3 > abs(means[2] - 200)
    assert means[1] < 160
    with pytest.raises(DataError):  # a file with all pictures in it lacks none
        Thumbnails(store).sheet([2, 3], 48)


def test_neighbors_are_the_nearest_by_cosine(server: BrowseServer) -> None:
    unit = COLLECTION.vectors / np.linalg.norm(COLLECTION.vectors, axis=1, keepdims=True)
    cosines = unit @ unit[11]
    cosines[11] = -2
    order = np.argsort(-cosines, kind="stable")[:5]
    reply = ask_json(server, "/neighbors?rows=11&k=5")
    assert reply["rows"] == order.tolist()
    assert np.allclose(reply["cosines"], cosines[order], atol=1e-4)


def test_neighbors_of_several_are_those_of_their_mean_direction(server: BrowseServer) -> None:
    unit = COLLECTION.vectors / np.linalg.norm(COLLECTION.vectors, axis=1, keepdims=True)
    chosen = [0, 1, 5]
    mean = unit[chosen].mean(axis=0)
    cosines = unit @ (mean / np.linalg.norm(mean))
    cosines[chosen] = -2
    reply = ask_json(server, "/neighbors?rows=0,1,5&k=4")
    assert reply["rows"] == np.argsort(-cosines, kind="stable")[:4].tolist()


def test_all_images_may_be_neighbors(server: BrowseServer) -> None:
    assert sorted(ask_json(server, "/neighbors?rows=2&k=200")["rows"]) == [
        row for row in range(90) if row != 2
    ]


def test_an_image_file_finds_its_neighbors(server: BrowseServer) -> None:
    reply = ask_json(server, "/similar?name=x.png&k=3", b"any bytes")
    assert reply["rows"][0] == 4
    assert reply["cosines"][0] == pytest.approx(1, abs=1e-4)


def test_an_image_file_that_cannot_be_used_gets_a_sentence(tmp_path: Path) -> None:
    def encode(content: bytes, name: str) -> np.ndarray:
        raise DataError(f"{name} cannot be used: empty file.")

    from dataclasses import replace

    for wrong, sentence in ((encode, b"x.png cannot be used"), (None, b"no encoder")):
        collection = replace(COLLECTION, encode=wrong)
        with BrowseServer(collection, annotations_of(collection, tmp_path / "t.csv")) as running:
            status, content, _ = ask(running, "/similar?name=x.png&k=3", b"")
            assert status == 400
            assert sentence in content


def test_names_are_found_in_any_case(server: BrowseServer) -> None:
    _, content, _ = ask(server, "/find?text=CI%2F00")
    assert np.frombuffer(content, "<i4").tolist() == [0, 3, 6, 9]
    (image,) = ask_json(server, "/images?rows=3")
    assert image == {"row": 3, "name": "ci/003.png", "path": None, "width": 32, "height": 24}


def test_annotations_are_written_before_the_reply(server: BrowseServer) -> None:
    reply = ask_json(server, "/annotate", json.dumps([[2, " cat ", ["b", "a"], []]]).encode())
    assert Path(reply["path"]).read_text().splitlines()[1].endswith(",cat,a;b")
    assert (reply["before"], reply["rows"]) == ([[2, "", []]], [[2, "cat", ["a", "b"]]])
    assert ask_json(server, "/annotations")["rows"] == [[2, "cat", ["a", "b"]]]


def test_a_connection_serves_many_requests(server: BrowseServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for row in range(20):
        connection.request("GET", versioned(server, f"/thumb?row={row}&size=64"),
                           headers={"Cookie": f"coview-{server.port}={server.token}"})  # fmt: skip
        reply = connection.getresponse()
        assert reply.status == 200
        assert reply.read()
    connection.close()


def test_a_browser_that_leaves_and_nonsense_print_nothing(
    server: BrowseServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for content in (b"", b"\x16\x03\x01 nonsense\r\n\r\n", b"POST /annotate HTTP/1.1\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(content)
    assert ask(server, "/arrays")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_a_sentence(server: BrowseServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=f"`port` {server.port} of 127.0.0.1 cannot be used"):
        BrowseServer(COLLECTION, annotations_of(COLLECTION, tmp_path / "t.csv"), port=server.port)


def test_thumbnails_stay_below_their_bound() -> None:
    thumbnails = Thumbnails(COLLECTION.store, cache_bytes=20_000)
    for row in range(60):
        thumbnails.jpeg(row, 64)
        thumbnails.square(row, 48)
        kept = sum(len(v) if isinstance(v, bytes) else v.nbytes for v in thumbnails._kept.values())
        assert kept == thumbnails.used_bytes <= 20_000
    assert np.array_equal(thumbnails.square(0, 48), Thumbnails(COLLECTION.store).square(0, 48))

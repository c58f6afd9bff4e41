"""How fast is the page over 100,000 images: server and headless Chromium on this machine?

    python benchmarks/browse.py [--images 100000] [--width 512] [--quick]

The images are drawn (32 x 32 pixels, in memory), the vectors are normal draws around 100 centers,
and so are the points. The server runs in a process of its own. Chromium has no GPU here: it draws
in software, with a window of 1,280 x 900. Frames: a wheel event or a drag step in every animation
frame; the time between two frames, and that of drawing one. Neighbors: over HTTP, one after the
other, while the page is idle. Memory: the resident set of the server, which holds the pixels and
the vectors, after all of it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from coview.browsing import Annotations, BrowseServer, Collection, Facet
from coview.core.images import store_from_arrays

sys.path.append(str(Path(__file__).parents[1] / "tests"))

GROUPS, SIDE, FRAMES, QUERIES = 100, 32, 120, 50
READY = "document.documentElement.dataset.ready !== undefined"
TURNS = """(async (frames, act) => {
  const map = document.getElementById('map'), box = map.getBoundingClientRect();
  const x = box.x + box.width / 2, y = box.y + box.height / 2;
  const at = { clientX: x, clientY: y, bubbles: true, pointerId: 1 };
  const wheel = (k) => new WheelEvent('wheel',
    { ...at, deltaY: k < frames / 2 ? -60 : 60, cancelable: true });
  const move = (k) => new PointerEvent('pointermove',
    { ...at, clientX: x + 150 * Math.sin(k / 9), clientY: y + 90 * Math.sin(k / 7) });
  map.setPointerCapture = () => {};
  performance.clearMeasures('coview-draw');
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  if (act === 'pan') map.dispatchEvent(new PointerEvent('pointerdown', at));
  for (let k = 0; k < frames; k++) {
    map.dispatchEvent(act === 'zoom' ? wheel(k) : move(k));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  if (act === 'pan') map.dispatchEvent(new PointerEvent('pointercancel', at));
  return [times, performance.getEntriesByName('coview-draw').map(entry => entry.duration)];
})"""


def drawn(count: int, width: int) -> Collection:
    """Random images whose color is that of their group; their vectors and points lie near it."""
    generator = np.random.default_rng(0)
    groups = generator.integers(0, GROUPS, count)
    colors = generator.integers(0, 200, (GROUPS, 3))
    pixels = generator.integers(0, 56, (count, SIDE, SIDE, 3), dtype=np.uint8)
    pixels += colors[groups][:, None, None, :].astype(np.uint8)
    vectors = generator.standard_normal((count, width), dtype=np.float32)
    vectors += 2 * generator.standard_normal((GROUPS, width), dtype=np.float32)[groups]
    centers = generator.uniform(0.1, 0.9, (GROUPS, 2))
    points = centers[groups] + generator.normal(0, 0.025, (count, 2))
    classes = tuple(f"class {k}" for k in range(10))
    store = store_from_arrays(pixels, labels=groups % 10, class_names=classes, source="drawn")
    facets = (
        Facet(name="class", title="Class", values=classes, codes=groups % 10),
        Facet(name="cluster", title="Cluster", values=tuple(map(str, range(GROUPS))), codes=groups),
    )
    return Collection(
        title="drawn", store=store, paths=[None] * count, points=points.astype(np.float32),
        vectors=vectors, facets=facets,
    )  # fmt: skip


def serve(count: int, width: int) -> None:
    """Print the address and the seconds of the start, and serve until a line comes."""
    collection = drawn(count, width)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        store = collection.store
        tags = Annotations(
            Path(folder, "tags.csv"), ids=store.ids, names=store.names, paths=collection.paths
        )
        with BrowseServer(collection, tags) as server:
            seconds = time.perf_counter() - start
            held = store.pixels.nbytes + collection.vectors.nbytes
            print(json.dumps([server.address, seconds, held]), flush=True)
            sys.stdin.readline()


def neighbor_times(address: str, count: int) -> list[float]:
    """Seconds from the request to the whole reply, of several images one after the other."""
    place, _, token = address.removeprefix("http://").partition("/?token=")
    connection = http.client.HTTPConnection(place)
    cookie = {"Cookie": f"coview-{place.partition(':')[2]}={token}"}
    connection.request("GET", "/", headers=cookie)
    found = re.search(r'"version": ?"(\w+)"', connection.getresponse().read().decode())
    assert found is not None
    times = []
    for row in np.random.default_rng(1).integers(0, count, QUERIES + 1).tolist():
        start = time.perf_counter()
        connection.request("GET", f"/neighbors?rows={row}&k=24&v={found[1]}", headers=cookie)
        reply = connection.getresponse()
        assert reply.status == 200
        assert len(json.loads(reply.read())["rows"]) == 24
        times.append(time.perf_counter() - start)
    return times[1:]  # the first waits for torch and for the vectors


def resident_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def spread(times: list[float]) -> str:
    """The median and the 95th percentile, in milliseconds."""
    ordered = sorted(times)
    return f"{statistics.median(ordered):.0f} | {ordered[int(0.95 * (len(ordered) - 1))]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512, help="numbers of a vector")
    parser.add_argument("--quick", action="store_true", help="2,000 images: does it run")
    parser.add_argument("--serve", action="store_true", help="be the server alone")
    given = parser.parse_args()
    count = 2000 if given.quick else given.images
    if given.serve:
        serve(count, given.width)
        return
    from headless_browser import started
    from setting import setting

    print(f"browse: {setting()}\n")
    command = [
        sys.executable,
        __file__,
        "--serve",
        "--images",
        str(count),
        "--width",
        str(given.width),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        address, seconds, held = json.loads(child.stdout.readline())
        before = resident_mib(child.pid)
        times = neighbor_times(address, count)
        rows = [("neighbors over HTTP", spread([1000 * t for t in times]))]
        with started() as browser, browser.opened(address) as page:
            page.wait_for(READY, 60)
            first = page.run("performance.getEntriesByName('coview-first-picture')[0].startTime")
            for mode, act in (
                ("dots", "zoom"),
                ("dots", "pan"),
                ("near", "zoom"),
                ("pictures", "pan"),
            ):
                page.run(f"document.querySelector('[value={mode}]').click()")
                page.run("document.getElementById('fit').click()")
                frames, draws = page.run(f"{TURNS}({FRAMES}, '{act}')")
                name = {"near": "auto"}.get(mode, mode)
                rows.append((f"frame, {name}, {act}", spread(frames)))
                rows.append((f"drawing of it, {name}, {act}", spread(draws)))
            assert page.errors == [], page.errors
        after = resident_mib(child.pid)
        child.stdin.close()
    print(f"{count:,} images of {SIDE} x {SIDE} pixels, vectors of {given.width} numbers.\n")
    print("| | median, ms | 95 %, ms |\n|---|---:|---:|")
    print(f"| start of the server, without computing vectors and map | {1000 * seconds:.0f} | |")
    print(f"| opening the page to the first picture of the map | {first:.0f} | |")
    for name, values in rows:
        print(f"| {name} | {values} |")
    print(
        f"\nServer: {held / 2**20:,.0f} MiB of pixels and vectors; resident {before:,.0f} MiB "
        f"before the first request, {after:,.0f} MiB at the end."
    )


if __name__ == "__main__":
    main()

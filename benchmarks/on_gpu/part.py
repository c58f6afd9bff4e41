"""What a part of the measurement gets, and how it writes down what it finds."""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class Part:
    """One part: its device, its size, its end, and the file of its results.

    ``tiny``: the smallest sizes, which show only that the code runs. ``deadline``: when the part
    must have ended, by ``time.monotonic``, which all processes of a machine share; it looks at
    ``left`` before what takes long, and is killed a little later.
    """

    number: int
    device: torch.device
    tiny: bool
    deadline: float
    folder: Path
    data: tuple[Path, ...] = ()

    @property
    def left(self) -> float:
        """Seconds until the end of this part."""
        return self.deadline - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def write(self, name: str, *, ok: bool | None = None, note: str = "", **values: Any) -> None:
        """Append a result. ``ok``: whether a check holds; None for a figure or what is left out."""
        line = {"part": self.number, "name": name, "ok": ok, "values": values, "note": note}
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(
            self.number, name, {None: "", True: "ok", False: "FAILED"}[ok], values, note, flush=True
        )

    @contextmanager
    def case(self, name: str, *, needs: float = 0.0) -> Iterator[bool]:
        """Yields whether there is time for this case, which ``needs`` seconds.

        An error in the body is a result like others: it is written, and the part goes on. A case
        whose package cannot be imported is left out.
        """
        if self.left < needs:
            self.write(
                name, note=f"left out: needs {needs:.0f} s, {max(self.left, 0):.0f} s are left"
            )
            yield False
            return
        print(f"{self.number} {name} ...", flush=True)
        try:
            yield True
        except ImportError as error:
            self.write(name, note=f"left out: {error}")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            first = str(error).strip().split("\n")[0][:300]
            self.write(name, ok=False, note=f"{type(error).__name__} at {where}: {first}")
        if self.on_gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def milliseconds(
        self, action: Callable[[], object], *, warm: int = 3, turns: int = 10
    ) -> float:
        """The median of ``turns`` calls, each to its end on the device, after ``warm`` others."""
        times = []
        for turn in range(warm + turns):
            self.wait()
            start = time.perf_counter()
            action()
            self.wait()
            if turn >= warm:
                times.append(time.perf_counter() - start)
            if times and self.left < 0:
                break
        return 1000 * statistics.median(times)

    def peak(self, action: Callable[[], object]) -> float:
        """The most memory of the device during ``action``, in GiB; 0 on a CPU."""
        if not self.on_gpu:
            action()
            return 0.0
        torch.cuda.reset_peak_memory_stats(self.device)
        action()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) / 2**30

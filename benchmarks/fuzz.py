"""`make fuzz`: damaged, lying and hostile files; each case in a process with limits.

    python benchmarks/fuzz.py                             a hundredth of a night
    python benchmarks/fuzz.py --share 1 --record          the targets of a night; writes the pages
    python benchmarks/fuzz.py images bombs --count 500 --seed 3

images: damaged files of every format are rejected with a reason, or show their picture; no half
picture is taken. bombs: files that would take too much are refused from their header. parquet,
stores, weights: damaged ones give one sentence or the right content, hostile ones run nothing.
nonfinite: a step with such a number is skipped without a trace.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the others reserve gigabytes
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with threads of OpenMP cannot be forked
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from children import run_cases
from coview.core.errors import CoviewError
from coview.core.progress import say
from coview.data import open_images
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import Decoded, DecodeSpec
from coview.encoders import convert_checkpoint, load_weights, resnet
from coview.methods import get_method
from coview.recipes import METHODS
from coview.testing.methods import make_batch, make_learner
from coview.training.precision import Precision
from coview.training.step import train_step
from damage import FORMATS, damages, encode, flip, picture, splice, truncate, zero_block
from hostile import bomb, hostile_weights
from reliability import PAGE, Campaign, record
from setting import setting

SECONDS, MEGABYTES = 2.0, 1024
# Without a checksum a tail of zeros is a tail of black pixels.
SEEN_AS_BLACK = {"BMP", "TIFF", "PPM"}
HALVES = {"truncated", "zero tail", "cut and closed"}
BLOCK = 17 * 17  # the last block of a JPEG, and the column and row that are mixed with it
RATES = PAGE.with_name("damage.md")


# --- images ---


def image_case(number: int, *, seed: int) -> tuple[str, str, str]:
    """(format, damage, what came of it): the same, rejected, changed or half."""
    rng = np.random.default_rng([seed, number])
    name = list(FORMATS)[number % len(FORMATS)]
    kinds = list(damages(name))
    kind, damage = kinds[number // len(FORMATS) % len(kinds)]
    content = encode(picture(rng, int(rng.integers(24, 200))), name)
    with strict_pillow():
        whole = decode_image(content, DecodeSpec())
        image = decode_image(damage(content, rng), DecodeSpec())
    assert isinstance(whole, Decoded), whole
    if not isinstance(image, Decoded):
        assert image.reason
        return name, kind, "rejected"
    if (image.height, image.width) != (whole.height, whole.width):
        return name, kind, "changed"
    one, other = (np.frombuffer(each.pixels, np.uint8).reshape(-1, 4) for each in (whole, image))
    different = int((one != other).any(axis=1).sum())
    if kind in HALVES and different > BLOCK and name not in SEEN_AS_BLACK:
        return name, kind, "half"
    return name, kind, "changed" if different else "same"


def images(count: int, seed: int) -> tuple[Campaign, str]:
    holds = "rejected with a reason, or the picture; no half picture; 2 s, 1 GB"
    campaign = Campaign("damaged images", holds, seed, target=100_000)
    rates: Counter[tuple[str, str, str]] = Counter()
    case = partial(image_case, seed=seed)
    for number, result, fault in run_cases(case, count, seconds=SECONDS, megabytes=MEGABYTES):
        if result is not None:
            rates[tuple(result)] += 1
            fault = f"half a picture taken: {result[0]}, {result[1]}" if "half" in result else ""
        campaign.case(fault and f"{fault} (case {number})")
    return campaign, rate_table(rates)


def rate_table(rates: Counter[tuple[str, str, str]]) -> str:
    """How often damage was taken for a good picture and changed it, by format and damage."""
    kinds = list(dict.fromkeys(kind for name in FORMATS for kind, _ in damages(name)))
    lines = [f"| format | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for name in FORMATS:
        cells = []
        for kind in kinds:
            counts = {
                what: rates[name, kind, what] for what in ("same", "rejected", "changed", "half")
            }
            total = sum(counts.values())
            taken = counts["changed"] + counts["half"]
            cells.append(f"{100 * taken / total:.1f} % of {total}" if total else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


# --- bombs ---


def bomb_case(number: int, *, seed: int) -> str:
    content = bomb(number, np.random.default_rng([seed, number]))
    peak, started = _peak(), time.process_time()
    with strict_pillow():
        image = decode_image(content, DecodeSpec(short_side=256))
    seconds, grown = time.process_time() - started, _peak() - peak
    assert not isinstance(image, Decoded), "taken"
    assert seconds < 0.1, f"{seconds:.2f} s: {image.reason}"
    assert grown < 64 << 20, f"{grown / 1e6:.0f} MB: {image.reason}"
    return image.reason


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


# --- Parquet, stores ---


def parquet_case(number: int, *, seed: int, folder: Path) -> str:
    rng = np.random.default_rng([seed, number])
    encoded = [encode(picture(rng, 12), "PNG") for _ in range(12)]
    table = pa.table({"image": [{"bytes": each, "path": None} for each in encoded],
                      "label": [f"class {k % 3}" for k in range(12)]})  # fmt: skip
    path = folder / "a.parquet"
    pq.write_table(table, path, row_group_size=5)
    damage = (truncate, flip, zero_block, splice)[number % 4]
    path.write_bytes(damage(path.read_bytes(), rng))
    return _open(path)


def _open(source: Any, **options: Any) -> str:
    try:
        store = open_images(source, labels_from="auto", allow_broken=True, **options)
    except CoviewError as error:
        words, outcome = str(error), type(error).__name__
    else:
        words, outcome = "", f"{len(store)} images"
    assert "\n" not in words
    return outcome


def store_case(number: int, *, seed: int, folder: Path) -> str:
    """The cached store is damaged: the images are those of the source all the same."""
    rng = np.random.default_rng([seed, number])
    pictures = [np.asarray(picture(rng, 12)) for _ in range(6)]
    options = {"memory_share": 0.0, "cache": folder / "cache"}
    open_images(pictures, **options)
    (store,) = (folder / "cache" / "stores").iterdir()
    path = store / ("index.npz", "pixels.bin", "store.json")[number % 3]
    content = path.read_bytes()
    # The pixels have no hash: only their number is checked when a store is opened.
    damage = (
        truncate
        if path.name == "pixels.bin"
        else (truncate, flip, zero_block, splice)[number // 4 % 4]
    )
    path.write_bytes(damage(content, rng))
    again = open_images(pictures, **options)
    for row, image in enumerate(pictures):
        assert np.array_equal(again.image(row), image), f"{path.name} damaged, image {row} changed"
    return path.name


# --- weights ---


def weights_case(number: int, *, seed: int, folder: Path) -> str:
    rng, canary = np.random.default_rng([seed, number]), folder / "canary"
    suffix, content = hostile_weights(number, rng, canary)
    path, encoder = folder / f"weights{suffix}", resnet(18, width=0.125, stem="small", seed=1)
    path.write_bytes(content)
    outcome = "loaded"
    try:
        if suffix == ".pth":
            path = convert_checkpoint(path, folder / "converted.safetensors")
        load_weights(encoder, path)
    except CoviewError as error:
        outcome = type(error).__name__
    assert not canary.exists(), "a command was run"
    return outcome


# --- numbers that are not finite ---


def nonfinite_case(number: int, *, seed: int) -> str:
    """A step with such a pixel or gradient is skipped; the next is as if it had not been."""
    rng = np.random.default_rng([seed, number])
    names = sorted(METHODS)
    method = get_method(names[number % len(names)])(8)
    value = (math.nan, math.inf, -math.inf)[number // len(names) % 3]
    quiet, learner = make_learner(method), make_learner(method)
    batch = make_batch(method)
    optimizers = [torch.optim.SGD(each.parameters(), momentum=0.9) for each in (quiet, learner)]
    before = _state(learner)
    if number // len(names) // 3 % 2:
        place = "pixel"
        views = [view.clone() for view in batch.views]
        view = views[rng.integers(len(views))].view(-1)
        view[rng.integers(len(view))] = value
        step = train_step(learner, replace(batch, views=tuple(views)), optimizers[1], 0.1, FP32)
    else:
        place = "gradient"
        parameters = [each for each in learner.parameters() if each.requires_grad]
        parameter = parameters[rng.integers(len(parameters))]
        hook = parameter.register_hook(lambda gradient: torch.full_like(gradient, value))
        step = train_step(learner, batch, optimizers[1], 0.1, FP32)
        hook.remove()
        if not step.skipped and parameter.grad is None:
            return "not reached"
    assert step.skipped, f"{method.name}: a step with {value} in a {place} was taken"
    assert _state(learner) == before, f"{method.name}: the skipped step left a trace"
    for each, optimizer in zip((quiet, learner), optimizers, strict=True):
        assert not train_step(each, batch, optimizer, 0.1, FP32).skipped
    assert _state(learner) == _state(quiet), f"{method.name}: the next step is another"
    return f"{value} in a {place} skipped"


FP32 = Precision(torch.device("cpu"), "fp32")


def _state(module: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


# --- the program ---


def campaign(
    name: str, holds: str, target: int, case: Callable[..., Any], *, seconds: float, chunk: int,
    in_folder: bool,
) -> Callable[[int, int], tuple[Campaign, str]]:  # fmt: skip
    def run(count: int, seed: int) -> tuple[Campaign, str]:
        result = Campaign(name, holds, seed, target=target)
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as place:

            def one(number: int) -> Any:
                if not in_folder:
                    return case(number, seed=seed)
                folder = Path(place) / "case"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                return case(number, seed=seed, folder=folder)

            for number, outcome, fault in run_cases(
                one, count, seconds=seconds, megabytes=MEGABYTES, chunk=chunk
            ):
                outcomes[str(outcome)] += 1
                result.case(fault and f"{fault} (case {number})")
        shown = ", ".join(f"{count:,} {what}" for what, count in outcomes.most_common(6))
        return result, f"{name}: {shown}"

    return run


CAMPAIGNS: dict[str, tuple[int, Callable[[int, int], tuple[Campaign, str]]]] = {
    "images": (100_000, images),
    "bombs": (80, campaign(
        "bombs", "refused from the header: 100 ms, 64 MB", 80, bomb_case, seconds=20, chunk=6,
        in_folder=False)),
    "parquet": (5_000, campaign(
        "damaged Parquet", "images, or one sentence; 5 s, 1 GB", 5_000, parquet_case, seconds=5,
        chunk=100, in_folder=True)),
    "stores": (2_000, campaign(
        "damaged stores", "the images of the source", 2_000, store_case, seconds=5, chunk=100,
        in_folder=True)),
    "nonfinite": (1_500, campaign(
        "non-finite values", "the step is skipped without a trace", 1_500, nonfinite_case,
        seconds=30, chunk=100, in_folder=False)),
    "weights": (600, campaign(
        "hostile weights", "nothing is run; one sentence; 5 s, 1 GB", 600, weights_case, seconds=5,
        chunk=40, in_folder=True)),
}  # fmt: skip


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--count", type=int, help="cases of each campaign")
    parser.add_argument("--share", type=float, default=0.01, help="of the targets of a night")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the pages of results")
    options = parser.parse_args(words)
    failed = 0
    for name in options.campaigns or CAMPAIGNS:
        target, run = CAMPAIGNS[name]
        result, table = run(options.count or max(8, round(options.share * target)), options.seed)
        failed += len(result.failures)
        say(result.row())
        say(table)
        if options.record:
            record(result)
            if name == "images":
                RATES.write_text(
                    RATES_HEAD.format(setting=setting(), seed=options.seed) + table + "\n"
                )
    return 1 if failed else 0


RATES_HEAD = """# Damage that is not seen

Share of damaged files that are taken for a good picture and show another one, by format and damage
(`python benchmarks/fuzz.py images`, seed {seed}). Pictures of 24 to 200 px with noise. "Truncated"
is cut anywhere, "cut and closed" is cut and ended with the format's end, "zero tail" has its full
size. Of a JPEG that is cut and closed, the difference is within the last block of 16 x 16 px.

{setting}

"""

if __name__ == "__main__":
    sys.exit(main())

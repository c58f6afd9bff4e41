"""Is Coview right on a GPU, and how fast? One command of at most nine minutes.

    make gpu OUT=folder                 COVIEW_COMMIT=... names the commit of a copy without .git
    PYTHONPATH=src python benchmarks/gpu.py --out folder [--parts 1,2] [--data CIFAR_TRAIN.parquet]
    PYTHONPATH=src python benchmarks/gpu.py --page folder      the page of results that are there
    PYTHONPATH=src python benchmarks/gpu.py --out folder --device cpu --tiny      does it run at all

The parts, in the order of their importance: (1) the tests marked gpu; (2) every method, objective,
optimizer and view plan, a detector and a segmenter beside the CPU; (3) resume, several processes,
memory; (4) whole runs, of a detector too; (5) step time; (6) rendering; (7) the fused loss; (8) kNN
and linear evaluation; (9) a batch of 4,096 at 224 px; (10) CIFAR-10 with the time that is left.
Each is a process of its own: one that crashes, runs out of memory or overruns its time, after which
it is killed, leaves the others. Every result is appended to folder/results.jsonl as it comes;
folder/gpu.json, folder/gpu.md and, on a GPU, docs/benchmarks/results/gpu.md are written again after
each part, so that a run that is cut off leaves its answers; folder/log.txt is what the parts have
printed. A second command with other parts and the same folder adds to them. It needs what Coview
needs and no installation; pytest for part 1. A package that cannot be imported is named first; the
parts go on with what does without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, CONTENT, LOG = "results.jsonl", "gpu.json", "log.txt"
PAGE = ROOT / "docs" / "benchmarks" / "results" / "gpu.md"
TOTAL = 530.0  # seconds of all parts
FOLLOWS = 15.0  # of them which a part leaves to those behind it
LEAST = 3.0  # of a part that is begun at all

# number: (module, seconds, title). What a part does not need goes to those behind it.
PARTS: dict[int, tuple[str, float, str]] = {
    1: ("suite", 80, "Tests that need a GPU"),
    2: ("agree", 105, "The same as on a CPU"),
    3: ("paths", 70, "Resume, several processes, memory"),
    4: ("whole", 70, "Whole runs"),
    5: ("steps", 75, "Step time, memory, where the time goes"),
    6: ("rendering", 45, "Views"),
    7: ("losses", 20, "Fused loss beside tiles"),
    8: ("judging", 25, "kNN and linear evaluation"),
    9: ("large", 35, "Large batch and large loss"),
    10: ("cifar", 5, "CIFAR-10 with the time that is left"),
}


def main() -> None:
    arguments = parsed()
    if arguments.page is not None:
        PAGE.write_text(page_of(arguments.page))
        print(f"Wrote {PAGE}")
    elif arguments.run is not None:
        run_part(arguments)
    else:
        sys.exit(run_all(arguments))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-results"), help="folder of the results"
    )
    parser.add_argument("--parts", default="", help="such as 2,4; all parts if it is left out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: does it run")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="of all parts together")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="CIFAR-10 for part 10")
    parser.add_argument("--page", type=Path, help="write the page of the results in this folder")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_parts(words: str) -> list[int]:
    numbers = [int(word) for word in words.split(",")] if words else list(PARTS)
    if unknown := set(numbers) - set(PARTS):
        sys.exit(f"There is no part {min(unknown)}; expected numbers from 1 to {len(PARTS)}.")
    return sorted(numbers)


def run_part(arguments: argparse.Namespace) -> None:
    """In the process of one part."""
    import torch

    from on_gpu.part import Part

    device = torch.device(arguments.device)
    device = torch.device("cuda", 0) if device == torch.device("cuda") else device
    part = Part(
        arguments.run, device, arguments.tiny, arguments.deadline, arguments.out,
        tuple(arguments.data),
    )  # fmt: skip
    try:
        import_module(f"on_gpu.{PARTS[arguments.run][0]}").run(part)
    except ImportError as error:
        part.write("this part", note=f"left out: {error}")


def run_all(arguments: argparse.Namespace) -> int:
    """Each chosen part in a process. Returns 1 where a check fails or a part does not end well."""
    numbers, folder = chosen_parts(arguments.parts), arguments.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    others = [line for line in results_of(folder) if line["part"] not in numbers]
    ends = {n: end for n, end in ends_of(folder).items() if n not in numbers}
    (folder / RESULTS).write_text("".join(json.dumps(line) + "\n" for line in others))
    machine = machine_of(arguments.device)
    for package, error in machine["unusable"].items():
        print(f"{package} cannot be imported: {error}", flush=True)

    def write_content() -> None:
        content = {**machine, "parts": ends, "results": results_of(folder)}
        (folder / CONTENT).write_text(json.dumps(content, indent=1) + "\n")

    write_content()
    for place, number in enumerate(numbers):
        later = numbers[place + 1 :]
        left = arguments.seconds - (time.monotonic() - begun)
        # The part's own share and what the earlier ones have left over; the last takes all.
        saved = left - sum(PARTS[n][1] for n in (number, *later))
        seconds = left if not later else min(PARTS[number][1] + max(0.0, saved), left - FOLLOWS)
        end = one_part(arguments, number, seconds, folder)
        ends[number] = end | {"setting": machine["setting"]}
        write_content()
        text = page_of(folder)
        if arguments.device.startswith("cuda") and not arguments.tiny:
            PAGE.write_text(text)
    print(page_of(folder))
    failed = [line for line in results_of(folder) if line["ok"] is False]
    return 1 if failed or any(end["fault"] for end in ends.values()) else 0


def one_part(arguments: argparse.Namespace, number: int, seconds: float, folder: Path) -> dict:
    title = PARTS[number][2]
    if seconds < LEAST:
        return {"seconds": 0.0, "fault": "left out: no time was left"}
    print(f"\n== Part {number}: {title}, at most {seconds:.0f} s", flush=True)
    begun, fault = time.monotonic(), ""
    command = [
        sys.executable, str(HERE / "gpu.py"), "--run", str(number), "--out", str(folder),
        "--device", arguments.device, "--deadline", str(begun + seconds - 2),
        *(["--tiny"] if arguments.tiny else []),
        *(["--data", *map(str, arguments.data)] if arguments.data else []),
    ]  # fmt: skip
    path = folder / LOG
    with path.open("a") as log:
        log.write(f"== Part {number}: {title}\n")
        log.flush()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            if code := process.wait(seconds):
                fault = f"ended with code {code}: {last_line(path)}"
        except subprocess.TimeoutExpired:
            fault = f"overran its {seconds:.0f} s and was killed; the last line: {last_line(path)}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    spent = round(time.monotonic() - begun, 1)
    print(f"   {spent} s{'; ' + fault if fault else ''}", flush=True)
    return {"seconds": spent, "fault": fault}


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def machine_of(device: str) -> dict[str, Any]:
    """What on_gpu/machine.py says; in a process of its own, as all CUDA is."""
    done = subprocess.run(
        [sys.executable, "-m", "on_gpu.machine", device], capture_output=True, text=True,
        check=False, cwd=ROOT, env=environment(),
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{device} cannot be used: {(done.stderr.strip().splitlines() or [''])[-1]}")
    machine: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return machine


def environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def results_of(folder: Path) -> list[dict]:
    """The lines of all parts, in the order of the parts; a line that was cut off is left out."""
    path = folder / RESULTS
    texts = path.read_text().splitlines() if path.exists() else []
    return sorted((json.loads(t) for t in texts if t.endswith("}")), key=lambda line: line["part"])


def ends_of(folder: Path) -> dict[int, dict]:
    """How each part ended, by its number."""
    path = folder / CONTENT
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    return {int(number): end for number, end in parts.items()}


def page_of(folder: Path) -> str:
    """The page of the results in ``folder``, which is written to gpu.md there."""
    lines, ends = results_of(folder), ends_of(folder)
    machine = json.loads((folder / CONTENT).read_text())
    settings: dict[str, list[int]] = {}  # parts may have run by several commands
    for number, end in sorted(ends.items()):
        settings.setdefault(end["setting"], []).append(number)
    checks = [line["ok"] for line in lines if line["ok"] is not None]
    text = [
        "# On a GPU", "", "Written by `benchmarks/gpu.py`; seed 7 for networks and batches.", "",
        *(f"Parts {', '.join(map(str, of))}: {setting}.\n" for setting, of in settings.items()),
        *([] if settings else [f"{machine['setting']}.", ""]),
        *(f"{name} cannot be imported: {error}.\n" for name, error in machine["unusable"].items()),
        f"{sum(checks)} of {len(checks)} checks hold.",
    ]  # fmt: skip
    for number, (_, _, title) in PARTS.items():
        own = [line for line in lines if line["part"] == number]
        if not own and number not in ends:
            continue
        end = ends.get(number, {"seconds": 0.0, "fault": "did not end"})
        fault = f" {end['fault'][0].upper()}{end['fault'][1:]}." if end["fault"] else ""
        text += ["", f"## {number}. {title}", "", f"{end['seconds']:.0f} s.{fault}", ""]
        text += ["| case | holds | result |", "|---|---|---|"] if own else ["No result."]
        text += [row_of(line) for line in own]
    page = "\n".join(text) + "\n"
    (folder / "gpu.md").write_text(page)
    return page


def row_of(line: dict) -> str:
    values = "; ".join(f"{name} {shown(value)}" for name, value in line["values"].items())
    result = "; ".join(filter(None, (values, line["note"]))).replace("|", "/").replace("\n", " ")
    holds = {None: "", True: "yes", False: "**no**"}[line["ok"]]
    return f"| {line['name'].replace('|', '/')} | {holds} | {result} |"


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(shown, value)) if value else "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()

"""`make crash`: whole runs under kills, signals, faults of the disk, damage and company.

    python benchmarks/crash.py                        about ten minutes
    python benchmarks/crash.py --share 1 --record     the targets of a night; writes the page
    python benchmarks/crash.py kills faults --share 0.01 --seed 3

A parent that has imported everything forks a process for each case, so that a case takes about a
second. Each has a run of a few steps that saves after every step. What must hold: no traceback, the
right exit code, and after `coview resume` the weights of the quiet run, bit for bit.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with threads of OpenMP cannot be forked
sys.path.insert(0, str(Path(__file__).parent))

import torch

from coview.cli import main
from coview.training import Checkpoints, loop
from reliability import Campaign, record

TRACEBACK = 99
SETTINGS = [
    "--limit", "60", "--size", "8", "--encoder", "resnet18/8-small", "--batch", "16", "--epochs",
    "3", "--device", "cpu", "--workers", "0",
]  # fmt: skip
WORDS = ["pretrain", "scenes", *SETTINGS]
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "ESTALE")
# What a stopped process may leave with: stopped and saved; a second signal; none was caught yet.
STOPPED = {75, 130, *(128 + getattr(signal, n) for n in SIGNALS)} | {
    -getattr(signal, n) for n in SIGNALS
}


class Place:
    """A folder for the runs of the campaigns, and the quiet run that all are compared with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.quiet = self.new()
        started = time.monotonic()
        assert call([*WORDS, "--out", str(self.quiet)], self.log) == 0, self.log.read_text()
        self.seconds = time.monotonic() - started
        self.operations = self._count()

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"run{self.number}"

    def _count(self) -> int:
        """The number of file operations of a quiet run."""
        counted, run = self.folder / "operations", self.new()

        def count() -> None:
            on_operation(run, lambda number: counted.write_text(str(number)))

        call([*WORDS, "--out", str(run)], self.log, count)
        shutil.rmtree(run)
        return int(counted.read_text())

    def finish(self, run: Path, words: list[str] | None = None) -> str:
        """Go on with ``run`` until it has ended; a sentence unless it is the quiet run then."""
        if not (run / "run.json").exists():
            shutil.rmtree(run, ignore_errors=True)
            words = [*WORDS, "--out", str(run)]
        had_ended = (run / "verdict.json").exists()
        if not had_ended:
            code = call(words or ["resume", str(run)], self.log)
            if code != 0:
                return f"going on: exit code {code}: {self.log.read_text()[-400:]!r}"
        fault = difference(run, self.quiet, locked=had_ended)
        shutil.rmtree(run, ignore_errors=True)
        return fault


def difference(run: Path, quiet: Path, *, locked: bool = False) -> str:
    """What an ended run lacks or has otherwise than the quiet one; "" for nothing.

    ``locked``: the lock file may be there, as after a kill behind the last file of the run. Nobody
    holds it then.
    """
    for name in ("encoder/model.safetensors", "verdict.json"):
        if not (run / name).exists():
            return f"{name} is missing"
        if (run / name).read_bytes() != (quiet / name).read_bytes():
            return f"{name} is another one"
    leftovers = [p.name for p in run.rglob(".*") if "trash" in p.name or ".step" in p.name]
    if (run / "lock.json").exists() and not locked:
        leftovers.append("lock.json")
    if leftovers:
        return f"left behind: {', '.join(leftovers)}"
    return "" if (run / "report.html").exists() else "report.html is missing"


def begin(words: list[str], log: Path, before: Callable[[], object] = int) -> int:
    """Run a command line in a process of its own; the number of the process."""
    process = os.fork()
    if process:
        return process
    code = TRACEBACK
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        before()
        code = main(words)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end(process: int, seconds: float = 120.0) -> int:
    """The exit code of a process, as subprocess has it; it is killed after ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError(f"process {process} has not ended in {seconds:.0f} s")


def call(words: list[str], log: Path, before: Callable[[], object] = int) -> int:
    return end(begin(words, log, before))


def on_operation(run: Path, action: Callable[[int], object]) -> None:
    """Call ``action`` with a number before each operation on a file of ``run``: Python's audit
    events of opening, renaming, deleting and listing, and the syncs."""
    count = 0

    def happens(path: object) -> None:
        nonlocal count
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(run)):
            count += 1
            action(count)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" or event.startswith(("os.", "shutil.")):
            happens(arguments[0] if arguments else None)

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        happens(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def kills(place: Place, share: float, seed: int) -> Campaign:
    """kill -9 at any time of the life of a run, as often as it takes, and at the end resume."""
    campaign = Campaign("kills", "a killed run goes on to the same bits", seed, 4000)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, words = place.new(), None
        for _ in range(draw.randint(1, 4)):
            words = ["resume", str(run)] if (run / "run.json").exists() else \
                [*WORDS, "--out", str(run)]  # fmt: skip
            process = begin(words, place.log)
            time.sleep(draw.uniform(0, place.seconds))
            os.kill(process, signal.SIGKILL)
            code = end(process)
            bad = code not in (0, 2, -signal.SIGKILL)
            campaign.case(f"exit code {code}: {place.log.read_text()[-300:]!r}" if bad else "")
            if (run / "verdict.json").exists():
                break
        fault = place.finish(run)
        if fault:
            campaign.failures.append(fault)
    return campaign


def phases(place: Place, share: float, seed: int) -> Campaign:
    """kill -9 before the n-th operation on a file of the run: inside saves, prunes, the end."""
    campaign = Campaign("phases", "killed at a file operation, the same bits", seed, 6000)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, at = place.new(), draw.randint(1, place.operations)
        call([*WORDS, "--out", str(run)], place.log, lambda run=run, at=at: on_operation(
            run, lambda n: n == at and os.kill(os.getpid(), signal.SIGKILL)))  # fmt: skip
        fault = place.finish(run)
        campaign.case(fault and f"operation {at}: {fault}")
    return campaign


def signals(place: Place, share: float, seed: int) -> Campaign:
    """A signal at any time, or two; the run saves, leaves with the right code and goes on."""
    campaign = Campaign("signals", "a stopped run leaves in 10 s and goes on", seed, 1000)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, name = place.new(), draw.choice(SIGNALS)
        process = begin([*WORDS, "--out", str(run)], place.log)
        time.sleep(draw.uniform(0, place.seconds))
        for _ in range(draw.randint(1, 2)):
            os.kill(process, getattr(signal, name))
            time.sleep(draw.choice((0, 0.002)))
        try:
            code = end(process, 10)
        except TimeoutError as error:
            campaign.case(f"{name}: {error}")
            continue
        fault = f"exit code {code}" if code not in {0} | STOPPED else place.finish(run)
        campaign.case(fault and f"{name}: {fault}")
    return campaign


def faults(place: Place, share: float, seed: int) -> Campaign:
    """An operation on a file of the run fails, once or from then on, as on a full disk."""
    campaign = Campaign("faults", "one sentence or a note; then the same bits", seed, 900)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, at = place.new(), draw.randint(1, place.operations)
        name, lasting = draw.choice(FAULTS), draw.random() < 0.3
        number = getattr(errno, name)

        def fail(n: int, at: int = at, lasting: bool = lasting, number: int = number) -> None:
            if n == at or (lasting and n > at):
                raise OSError(number, os.strerror(number))

        code = call([*WORDS, "--out", str(run)], place.log,
                    lambda run=run, fail=fail: on_operation(run, fail))  # fmt: skip
        where = f"{name} at operation {at}{' and after' if lasting else ''}"
        text = place.log.read_text()
        if code not in (0, 2):
            campaign.case(f"{where}: exit code {code}: {text[-600:]!r}")
            continue
        fault = place.finish(run)
        campaign.case(fault and f"{where}: {fault}")
    return campaign


def checkpoints(place: Place, share: float, seed: int) -> Campaign:
    """A damaged checkpoint is never loaded: the one before is, or an error says so."""
    campaign = Campaign("checkpoints", "every damage is detected", seed, 50_000)
    draw, store = random.Random(seed), Checkpoints(place.new())
    for step in (1, 2):
        store.save(step, {"w": torch.full((300,), float(step))}, {"record": "x" * 200})
    whole = {path: path.read_bytes() for path in store.path(2).iterdir()}
    while campaign.cases < campaign.target * share:
        path = draw.choice(sorted(whole))
        content = damaged(whole[path], draw)
        if content == whole[path]:
            continue
        path.write_bytes(content)
        latest = store.load_latest()
        wrong = latest is None or latest.step != 1 or not latest.damaged
        campaign.case(f"{path.name} of {len(content)} bytes is loaded" if wrong else "")
        path.write_bytes(whole[path])
    return campaign


def damaged(content: bytes, draw: random.Random) -> bytes:
    """``content`` with a bit, a block or its end changed."""
    place, kind = draw.randrange(max(1, len(content))), draw.randrange(5)
    length = draw.randint(1, 64)
    if kind == 0:
        flipped = content[place] ^ (1 << draw.randrange(8)) if content else 0
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    block = bytes(length) if kind == 1 else draw.randbytes(length)
    return {
        1: content[:place] + block + content[place + length :],
        2: content[:place],
        3: content[:place] + block + content[place:],
        4: content[:place] + content[place + length :],
    }[kind]


VALUES = (None, True, -1, 0, 2**70, 1.5, float("nan"), "", "x", "\x1b[2J", [], [[1]], {}, {"a": 1})


def records(place: Place, share: float, seed: int) -> Campaign:
    """A damaged or edited JSON file of a run: every verb answers or says one sentence."""
    campaign = Campaign("records", "no traceback over all verbs", seed, 2000)
    draw = random.Random(seed)
    tuned = place.new()
    words = ["finetune", str(place.quiet), "scenes", "--limit", "60", "--epochs", "1", "--device",
             "cpu", "--workers", "0", "--out", str(tuned)]  # fmt: skip
    assert call(words, place.log) == 0, place.log.read_text()
    scenes = ["scenes", "--limit", "40", "--device", "cpu"]
    assert call(["evaluate", str(place.quiet), *scenes], place.log) == 0
    while campaign.cases < campaign.target * share:
        source = draw.choice((place.quiet, place.quiet, tuned))
        run = place.new()
        shutil.copytree(source, run)
        files = sorted(p for p in run.rglob("*.json*") if "checkpoints" not in p.parts)
        path = draw.choice(files)
        what = mutate(path, draw)
        verbs = {
            "report": [str(run)], "doctor": [str(run)], "resume": [str(run)],
            "evaluate": [str(run), *scenes, "--protocols", "knn"], "embed": [str(run), *scenes],
            "export": [str(run), "--to", "torchvision"], "predict": [str(run), *scenes],
            "finetune": [str(run), *scenes, "--epochs", "1", "--no-baselines", "--out",
                         str(run) + "t"],
        }  # fmt: skip
        verb = draw.choice(sorted(verbs))
        if verb == "resume":
            (run / "verdict.json").unlink(missing_ok=True)
        code = call([verb, *verbs[verb]], place.log)
        text = place.log.read_text(errors="replace")
        bad = code == TRACEBACK or code < 0 or "Traceback" in text
        where = f"{verb} with {path.relative_to(run)} ({what})"
        campaign.case(f"{where}: {text[-500:]}" if bad else "")
        for folder in (run, Path(f"{run}t")):
            shutil.rmtree(folder, ignore_errors=True)
    return campaign


def mutate(path: Path, draw: random.Random) -> str:
    """Damage a JSON file in one of many ways; returns which."""
    kind = draw.choice(("bytes", "value", "value", "value", "value", "key", "folder", "gone"))
    if kind == "bytes":
        path.write_bytes(damaged(path.read_bytes(), draw))
    elif kind in ("folder", "gone"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    else:
        lines = path.suffix == ".jsonl"
        text = path.read_text()
        values = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
        spots = [s for s in spots_of(values)]
        owner, key = draw.choice(spots)
        if kind == "key":
            del owner[key]
        else:
            owner[key] = draw.choice(VALUES)
        path.write_text("\n".join(map(json.dumps, values)) + "\n" if lines else json.dumps(values))
        kind = f"{kind} of {key!r} is {owner[key]!r:.40}" if kind == "value" else f"no {key!r}"
    return kind


def spots_of(value: object) -> list[tuple[object, object]]:
    """Every (owner, key) below ``value``."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))[:20]
    else:
        return []
    return [spot for key, item in pairs for spot in [(value, key), *spots_of(item)]]


def company(place: Place, share: float, seed: int) -> Campaign:
    """Two processes want one folder: one gets it, the other one sentence; the bits are the same."""
    campaign = Campaign("company", "one process writes a run", seed, 2000)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, resumed = place.new(), draw.random() < 0.5
        words = [*WORDS, "--out", str(run)]
        if resumed:
            process = begin(words, place.log)
            time.sleep(draw.uniform(0.3, 1) * place.seconds)
            os.kill(process, signal.SIGTERM)
            end(process)
            if not (run / "run.json").exists() or (run / "verdict.json").exists():
                continue
            words = ["resume", str(run)]
        logs = [place.folder / f"log{n}" for n in range(2)]
        processes = []
        for log in logs:
            processes.append(begin(words, log))
            time.sleep(draw.choice((0, 0, draw.uniform(0, place.seconds))))
        codes = [end(process) for process in processes]
        text = " ".join(log.read_text() for log in logs)
        said = any(w in text for w in ("is being written", "exists already", "has ended"))
        fault = "" if sorted(codes) == [0, 2] and said else f"exit codes {codes}: {text[-300:]!r}"
        campaign.case(fault or place.finish(run))
    return campaign


def environment(place: Place, share: float, seed: int) -> Campaign:
    """Homes, umasks, encodings and outputs of all kinds."""
    campaign = Campaign("environment", "the same bits in any environment", seed, 300)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run = place.new()
        home = draw.choice(("/nonexistent", "/dev/null", "", str(place.folder)))
        output = draw.choice(("ascii", "cp949", "cp1252", "/dev/full", "closed", "pipe"))
        mask, zone = draw.choice((0, 0o22, 0o77, 0o27)), draw.choice(("UTC", "Asia/Tokyo", ""))

        def before(home: str = home, output: str = output, mask: int = mask, zone: str = zone) \
                -> None:  # fmt: skip
            os.environ.update(HOME=home, TZ=zone)
            time.tzset()
            os.umask(mask)
            if output == "closed":
                os.close(1)
            elif output == "pipe":
                reader, writer = os.pipe()
                os.close(reader)
                os.dup2(writer, 1)
            elif output == "/dev/full":
                os.dup2(os.open(output, os.O_WRONLY), 1)
            else:
                sys.stdout = open(1, "w", encoding=output)  # noqa: SIM115

        code = call([*WORDS, "--out", str(run)], place.log, before)
        where = f"home {home!r}, output {output}, umask {mask:o}"
        fault = f"exit code {code}: {place.log.read_text()[-300:]!r}" if code else place.finish(run)
        campaign.case(fault and f"{where}: {fault}")
    return campaign


def ranks(place: Place, share: float, seed: int) -> Campaign:
    """Of two processes one is killed or stopped at any time: the other ends within 40 s."""
    campaign = Campaign("ranks", "no process waits for a dead or stopped one", seed, 600)
    draw = random.Random(seed)
    while campaign.cases < campaign.target * share:
        run, port = place.new(), str(draw.randrange(20_000, 60_000))
        words = [*WORDS, "--epochs", "4000", "--out", str(run)]

        def before(rank: int, port: str = port) -> None:
            os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                              LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                              MASTER_PORT=port)  # fmt: skip

        pair = [
            begin(words, place.folder / f"log{rank}", lambda rank=rank: before(rank))
            for rank in range(2)
        ]
        time.sleep(2 + draw.uniform(0, 4) * place.seconds)
        victim, how = draw.randrange(2), draw.choice((signal.SIGKILL, signal.SIGSTOP))
        os.kill(pair[victim], how)
        fault = ""
        try:
            code = end(pair[1 - victim], 40)
            if code not in (1, 2):
                fault = f"exit code {code}"
        except TimeoutError as error:
            fault = str(error)
        os.kill(pair[victim], signal.SIGKILL)
        end(pair[victim])
        campaign.case(fault and f"{how.name} of process {victim}: {fault}")
        shutil.rmtree(run, ignore_errors=True)
    return campaign


def soak(place: Place, share: float, seed: int) -> Campaign:
    """Saving and loading again and again: memory, open files and threads stay as they are."""
    campaign = Campaign("soak", "no growth of memory, files or threads", seed, 500)
    store = Checkpoints(place.new())
    tensors = {"w": torch.zeros(250_000)}

    def count(name: str) -> int:
        return sum(1 for _ in Path("/proc/self", name).iterdir())

    def measured() -> tuple[int, int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096, count("fd"), count("task")

    first = None
    while campaign.cases < max(20, campaign.target * share):
        store.save(campaign.cases, tensors, {})
        store.load_latest()
        campaign.case()
        if campaign.cases == 10:
            first = measured()
    assert first is not None
    grown = [now - before for now, before in zip(measured(), first, strict=True)]
    if grown[0] > 20 << 20 or grown[1] or grown[2]:
        campaign.failures.append(f"grown by {grown} (bytes, files, threads)")
    return campaign


CAMPAIGNS = (
    kills, phases, signals, faults, checkpoints, records, company, environment, ranks, soak,
)  # fmt: skip


def run_campaigns(names: list[str], share: float, seed: int, *, write: bool) -> bool:
    """Whether all cases held."""
    loop.train.__kwdefaults__["save_seconds"] = 0.0  # a checkpoint after every step
    known = {campaign.__name__: campaign for campaign in CAMPAIGNS}
    held = True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COVIEW_CACHE"] = str(Path(folder, "cache"))
        place = Place(Path(folder))
        for name in names or list(known):
            campaign = known[name](place, share, seed)
            print(campaign.row(), flush=True)
            held = held and not campaign.failures
            if write:
                record(campaign)
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", nargs="*", help=", ".join(c.__name__ for c in CAMPAIGNS))
    parser.add_argument("--share", type=float, default=0.02, help="of the targets of a night")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the lines of the page")
    given = parser.parse_args()
    sys.exit(not run_campaigns(given.campaigns, given.share, given.seed, write=given.record))

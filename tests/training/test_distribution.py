"""Processes that agree, and that end together: gloo here, torchrun for real below."""

import copy
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from coview.core import ranks as core_ranks
from coview.core.errors import InvalidValue, ProcessLost
from coview.core.machine import TORCHRUN_VARIABLES
from coview.core.ranks import SINGLE_PROCESS
from coview.methods import Learner, moco
from coview.testing.methods import Colors, make_batch, shrink
from coview.training import distribution, heartbeat
from coview.training.distribution import (
    agreed_reason,
    assert_replicas_equal,
    init_distributed,
    local_device,
)
from coview.training.heartbeat import Heartbeat
from coview.training.precision import Precision
from coview.training.step import average_gradients, buckets, train_step
from processes import together


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def with_gradients(rank):
    found = network()
    generator = torch.Generator().manual_seed(rank)
    for parameter in found.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return found


def check_gradients_become_their_mean_whatever_their_layout(ranks):
    mine = with_gradients(ranks.rank)
    if ranks.is_main:
        mine.to(memory_format=torch.channels_last)
        grad = mine[0].weight.grad
        mine[0].weight.grad = grad.contiguous(memory_format=torch.channels_last)
    average_gradients(mine.parameters(), ranks)
    everyone = [with_gradients(rank) for rank in range(ranks.world)]
    for place, parameter in enumerate(mine.parameters()):
        expected = sum(list(one.parameters())[place].grad for one in everyone) / ranks.world
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-6)
        rows = ranks.gather(parameter.grad.contiguous()[None])
        assert all(torch.equal(row, parameter.grad) for row in rows)


def check_parameter_without_a_gradient_on_some_or_all_ranks(ranks):
    mine = with_gradients(ranks.rank)
    mine[0].weight.grad = None
    if not ranks.is_main:
        mine[3].bias.grad = None
    average_gradients(mine.parameters(), ranks)
    assert mine[0].weight.grad is None
    torch.testing.assert_close(mine[3].bias.grad, with_gradients(0)[3].bias.grad / ranks.world)


def check_one_reduction_takes_all_small_gradients(ranks):
    mine, calls = with_gradients(ranks.rank), []
    original = dist.all_reduce

    def counted(tensor, **options):
        calls.append(tensor.dtype)
        return original(tensor, **options)

    dist.all_reduce = counted
    try:
        average_gradients(mine.parameters(), ranks)
    finally:
        dist.all_reduce = original
    assert calls == [torch.int64, torch.float32]  # who has gradients; the gradients


def check_gradient_of_a_gather_takes_one_reduction_and_moves_own_rows_only(ranks):
    rows, calls = torch.randn(2, 3, requires_grad=True), []
    gathered = ranks.gather(rows, (2,) * ranks.world)
    scatter, reduce = core_ranks._reduce_scatter, dist.all_reduce

    def scattered(mine, whole, **options):
        calls.append((tuple(mine.shape), tuple(whole.shape), whole.dtype))
        return scatter(mine, whole, **options)

    def reduced(tensor, **options):
        calls.append("all rows to all ranks")
        return reduce(tensor, **options)

    core_ranks._reduce_scatter, dist.all_reduce = scattered, reduced
    try:
        gathered.square().sum().backward()
    finally:
        core_ranks._reduce_scatter, dist.all_reduce = scatter, reduce
    assert calls == [((2, 3), (2 * ranks.world, 3), torch.float32)]
    torch.testing.assert_close(rows.grad, 2 * ranks.world * rows.detach())


def check_mean_gradient_is_that_of_the_whole_batch(ranks):
    """The convention of the losses: the mean over ranks of L_r is the loss of all images."""
    images = torch.randn(3 * ranks.world, 3, 3, 3, generator=torch.Generator().manual_seed(5))
    whole, mine = network().double().eval(), network().double().eval()
    whole(images.double()).square().mean().backward()
    mine(images.double().chunk(ranks.world)[ranks.rank]).square().mean().backward()
    average_gradients(mine.parameters(), ranks)
    for one, other in zip(mine.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


class NotFinite(Learner):
    """The loss of rank 1 is NaN, its gradient is finite."""

    def loss(self, batch, step):
        terms = super().loss(batch, step)
        if self.ranks.rank == 1:
            terms["broken"] = torch.tensor(math.nan)
        return terms


def check_one_process_whose_loss_is_not_finite_makes_all_skip_the_step(ranks):
    method = shrink(moco(8))
    for kind, skips in ((NotFinite, True), (Learner, False)):
        learner = kind(method, Colors(), ranks=ranks)
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        trained = [p for p in learner.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, momentum=0.9)
        step = train_step(
            learner, make_batch(method, seed=ranks.rank), optimizer, 0.1,
            Precision(torch.device("cpu"), "fp32"), ranks,
        )  # fmt: skip
        after = learner.state_dict()
        assert step.skipped == skips
        assert bool(optimizer.state) != skips
        assert all(torch.equal(after[name], before[name]) for name in before) == skips
        assert_replicas_equal(learner, ranks)
        if skips:
            mine = ranks.rank == 1
            reason = "the loss broken is nan" if mine else "another process's loss is not finite"
            assert step.reason == reason


def check_different_networks_are_named(ranks):
    assert_replicas_equal(network(), ranks)
    mine = network()
    if ranks.rank == ranks.world - 1:
        mine[1].running_var[2] += 1e-6
    with pytest.raises(InvalidValue, match=rf"0 and {ranks.world - 1} differ in 1\.running_var"):
        assert_replicas_equal(mine, ranks)


def check_reason_is_the_first_that_any_rank_has(ranks):
    assert agreed_reason("", ranks) == ""
    last = ranks.rank == ranks.world - 1
    assert agreed_reason("stopped by Ctrl-C" if last else "", ranks) == "stopped by Ctrl-C"
    assert agreed_reason(f"rank {ranks.rank}", ranks) == "rank 0"


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


@pytest.fixture(scope="module", params=[2, 4])
def faults(request):
    return together(request.param, CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_processes(check, faults):
    assert "\n".join(faults[check.__name__]).strip() == ""


def test_single_process_changes_nothing():
    mine = with_gradients(0)
    before = copy.deepcopy([parameter.grad for parameter in mine.parameters()])
    average_gradients(mine.parameters(), SINGLE_PROCESS)
    assert_replicas_equal(mine, SINGLE_PROCESS)
    assert all(torch.equal(p.grad, b) for p, b in zip(mine.parameters(), before, strict=True))
    assert agreed_reason("why", SINGLE_PROCESS) == "why"


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_distributed(torch.device("cpu")) as ranks:
        assert ranks is SINGLE_PROCESS
    assert local_device("cpu") == torch.device("cpu")


def test_a_device_without_collective_operations_is_refused(monkeypatch):
    for name in TORCHRUN_VARIABLES:
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(distribution, "choose_device", lambda name: torch.device(name))
    with pytest.raises(InvalidValue, match="'mps', which works in one process only"):
        local_device("mps")
    assert local_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert local_device("mps") == torch.device("mps")


def test_half_an_environment_of_torchrun_is_refused(monkeypatch):
    for name in TORCHRUN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(InvalidValue, match="MASTER_ADDR, MASTER_PORT is not set"),
        init_distributed(torch.device("cpu")),
    ):
        pass


def test_buckets_hold_one_type_each_in_order_up_to_the_limit():
    tensors = [torch.zeros(n, dtype=t) for n, t in
               ((4, torch.float32), (2, torch.int64), (3, torch.float32), (9, torch.float32))]  # fmt: skip
    found = [[len(tensor) for tensor in bucket] for bucket in buckets(tensors, limit=28)]
    assert found == [[4, 3], [9], [2]]
    assert list(buckets([])) == []


class Store:
    """A key-value store in this process."""

    def __init__(self):
        self.numbers, self.words, self.gone = {}, {}, False

    def add(self, key, count):
        if self.gone:
            raise RuntimeError("gone")
        self.numbers[key] = self.numbers.get(key, 0) + count
        return self.numbers[key]

    def check(self, keys):
        return all(key in self.words for key in keys)

    def get(self, key):
        return self.words[key].encode()

    def compare_set(self, key, expected, value):
        assert expected == ""
        self.words.setdefault(key, value)


def beating(store, *ranks, world=3, timeout=0.5):
    said = {rank: [] for rank in ranks}
    found = [
        Heartbeat(
            store,
            rank,
            world,
            interval=0.05,
            timeout=timeout,
            exit_now=said[rank].append,
        )
        for rank in ranks
    ]
    for one in found:
        one.start()
    return found, said


def test_heartbeats_of_the_living_disturb_nobody():
    found, said = beating(Store(), 0, 1, 2)
    time.sleep(1)
    for one in found:
        one.shutdown()
        one.stop()
    assert said == {0: [], 1: [], 2: []}


def test_process_that_is_not_heard_of_ends_all_and_is_named_once():
    found, said = beating(Store(), 0, 1, 2)
    time.sleep(0.2)
    found[1].stop()  # as if killed
    time.sleep(1.5)
    sentences = [*said[0], *said[2]]
    assert len(sentences) == 2
    assert sorted(sentences)[0] == ""
    assert "Process 1 has not responded" in max(sentences)
    assert said[1] == []


def test_error_that_one_process_tells_ends_the_others_at_once():
    found, said = beating(Store(), 0, 1, 2, timeout=60)
    found[2].shutdown()
    found[2].report_failure("Process 2 has ended: no space left")
    found[0].report_failure("Process 0 has ended: connection closed")
    time.sleep(0.5)
    assert said[2] == []
    assert "Process 2 has ended: no space left" in max(*said[0], *said[1])
    found[2].stop()


def test_silence_ends_a_run_within_30_seconds():
    assert heartbeat.TIMEOUT + 2 * heartbeat.INTERVAL < 28  # the rest is for torchrun to notice


def test_store_that_is_gone_ends_the_process():
    store = Store()
    _, said = beating(store, 0, timeout=60)
    store.gone = True
    time.sleep(0.5)
    (sentence,) = said[0]
    assert "holds the shared store has ended" in sentence


def test_store_that_does_not_answer_ends_the_process():
    """Its process was stopped, not killed: the call neither fails nor returns."""
    store, going_on = Store(), threading.Event()
    _, said = beating(store, 0)
    time.sleep(0.2)
    store.add = lambda key, count: going_on.wait()
    time.sleep(1)
    (sentence,) = said[0]
    assert "holds the shared store has not responded for" in sentence
    going_on.set()


# From here on: torchrun.

PREAMBLE = """
import functools, os, signal, sys, time
from pathlib import Path
import torch
from coview.core.errors import CoviewError
from coview.training import StopSignals, distribution
from coview.training.distribution import agreed_reason, init_distributed
torch.set_num_threads(1)
folder = Path(sys.argv[1])
me = os.environ["RANK"]
(folder / f"pid.{me}").write_text(str(os.getpid()))
"""


def environment():
    known = {name: value for name, value in os.environ.items() if name not in TORCHRUN_VARIABLES}
    source = str(Path(distribution.__file__).parents[2])
    return {**known, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def start(folder, body, *options):
    """Two processes under torchrun."""
    script = folder / "script.py"
    script.write_text(PREAMBLE + textwrap.dedent(body))
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *options, str(script), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def wait_for(path, seconds=90):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} was never written"
        time.sleep(0.05)
    return path


def living(folder):
    pids = [int(path.read_text()) for path in folder.glob("pid.*")]
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists()]


def test_torchrun_processes_meet_agree_and_only_the_first_prints(tmp_path):
    process = start(
        tmp_path,
        """
        with init_distributed(torch.device("cpu")) as ranks:
            print(f"hello from {ranks.rank} of {ranks.world}")
            total = ranks.all_reduce_sum(torch.tensor(ranks.rank + 1.0))
            (folder / f"total.{me}").write_text(str(float(total)))
        (folder / f"after.{me}").write_text(str(torch.distributed.is_initialized()))
        """,
    )
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert said == "hello from 0 of 2\n"
    assert [(tmp_path / f"total.{r}").read_text() for r in (0, 1)] == ["3.0", "3.0"]
    assert [(tmp_path / f"after.{r}").read_text() for r in (0, 1)] == ["False", "False"]


def test_torchrun_processes_may_meet_again(tmp_path):
    """The store of torchrun keeps the keys of the first group."""
    process = start(
        tmp_path,
        """
        for count in range(3):
            with init_distributed(torch.device("cpu")) as ranks:
                if ranks.is_main:
                    time.sleep(0.5)  # the others look first
                total = ranks.all_reduce_sum(torch.tensor(count + ranks.rank + 1.0))
                (folder / f"total.{count}.{me}").write_text(str(float(total)))
        """,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    totals = [[(tmp_path / f"total.{n}.{r}").read_text() for r in (0, 1)] for n in range(3)]
    assert totals == [["3.0", "3.0"], ["5.0", "5.0"], ["7.0", "7.0"]]


def test_torchrun_restarts_processes_after_a_failure(tmp_path):
    """The store outlives them, with the failure that they have reported."""
    process = start(
        tmp_path,
        """
        began = (folder / f"began.{me}").exists()
        (folder / f"began.{me}").touch()
        with init_distributed(torch.device("cpu")) as ranks:
            if ranks.is_main and not began:
                raise CoviewError("Image 7 cannot be read.")
            time.sleep(2 * 2)  # heartbeats read what was reported
            ranks.barrier()
        (folder / f"done.{me}").touch()
        """,
        "--max-restarts", "1",
    )  # fmt: skip
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert (tmp_path / "done.0").exists()
    assert (tmp_path / "done.1").exists()


def test_torchrun_process_that_comes_late_is_waited_for(tmp_path):
    """torchrun has the store, so that no process waits there for another."""
    process = start(
        tmp_path,
        """
        Beat = distribution.Heartbeat
        distribution.Heartbeat = functools.partial(Beat, interval=0.1, timeout=1.0)
        time.sleep(4 * int(me))
        with init_distributed(torch.device("cpu")) as ranks:
            (folder / f"met.{me}").touch()
        """,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert (tmp_path / "met.0").exists()
    assert (tmp_path / "met.1").exists()


def test_process_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(distribution, "INIT_TIMEOUT", timedelta(seconds=0.2))
    with (
        pytest.raises(ProcessLost, match="process 1 has not started"),
        distribution.connection_errors(),
    ):
        distribution.meet(dist.HashStore(), 0, 3)


def test_torchrun_signal_to_one_process_stops_all_at_the_same_step(tmp_path):
    process = start(
        tmp_path,
        """
        with init_distributed(torch.device("cpu")) as ranks, StopSignals() as stop:
            for step in range(10_000):
                ranks.all_reduce_sum(torch.ones(1000))
                (folder / f"going.{me}").touch()
                reason = agreed_reason(stop(), ranks)
                if reason:
                    (folder / f"ended.{me}").write_text(f"{step} {reason}")
                    break
                time.sleep(0.01)
        """,
    )
    wait_for(tmp_path / "going.1")
    os.kill(int((tmp_path / "pid.1").read_text()), signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    first, second = ((tmp_path / f"ended.{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert first.endswith("stopped by SIGTERM")


EXCHANGING = """
    stop = StopSignals().__enter__()
    try:
        with init_distributed(torch.device("cpu")) as ranks:
            while True:
                ranks.all_reduce_sum(torch.ones(1000))
                (folder / f"going.{me}").touch()
    except CoviewError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_killed_process_ends_the_run_with_a_sentence(tmp_path, victim):
    process = start(tmp_path, EXCHANGING)
    wait_for(tmp_path / "going.0")
    wait_for(tmp_path / "going.1")
    os.kill(int((tmp_path / f"pid.{victim}").read_text()), signal.SIGKILL)
    killed = time.monotonic()
    _, errors = process.communicate(timeout=120)
    seconds = time.monotonic() - killed
    assert process.returncode != 0
    assert seconds < 30, errors
    assert living(tmp_path) == []
    assert "Another process of this run has ended" in errors or "has ended: " in errors
    print(f"all gone {seconds:.1f} s after the kill")


def pair(folder, body):
    """Two processes without an agent that would end the second, as on two machines."""
    script = folder / "script.py"
    script.write_text(PREAMBLE + textwrap.dedent(body))
    port = str(20_000 + os.getpid() % 20_000)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)], stderr=subprocess.PIPE, text=True,
            env={**environment(), **shared, "RANK": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip


def test_process_that_hears_nothing_exits_when_the_other_is_killed(tmp_path):
    first, second = pair(
        tmp_path,
        """
        Beat = distribution.Heartbeat
        distribution.Heartbeat = functools.partial(Beat, interval=0.2, timeout=3.0)
        with init_distributed(torch.device("cpu")) as ranks:
            (folder / f"going.{me}").touch()
            time.sleep(600)  # as one that waits for a GPU
        """,
    )
    for rank in (0, 1):
        wait_for(tmp_path / f"going.{rank}")
    second.kill()
    killed = time.monotonic()
    _, errors = first.communicate(timeout=60)
    second.communicate()
    assert time.monotonic() - killed < 10
    assert first.returncode == 1
    assert "Process 1 has not responded for 3 s" in errors


def test_process_exits_when_the_one_with_the_store_is_stopped(tmp_path):
    first, second = pair(
        tmp_path,
        """
        Beat = distribution.Heartbeat
        distribution.Heartbeat = functools.partial(Beat, interval=0.2, timeout=3.0)
        with init_distributed(torch.device("cpu")) as ranks:
            (folder / f"going.{me}").touch()
            ranks.barrier() if ranks.rank == 1 else time.sleep(600)
        """,
    )
    for rank in (0, 1):
        wait_for(tmp_path / f"going.{rank}")
    first.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    _, errors = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert time.monotonic() - stopped < 10
    assert second.returncode == 1
    assert "has not responded for 3 s" in errors


def test_error_of_one_process_ends_the_other_and_is_told(tmp_path):
    first, second = pair(
        tmp_path,
        """
        with init_distributed(torch.device("cpu")) as ranks:
            if ranks.rank == 1:
                raise CoviewError("Image 7 cannot be read.")
            time.sleep(600)
        """,
    )
    _, errors = first.communicate(timeout=60)
    _, others = second.communicate(timeout=60)
    assert first.returncode == 1
    assert "Process 1 has ended: Image 7 cannot be read." in errors
    assert "CoviewError: Image 7 cannot be read." in others

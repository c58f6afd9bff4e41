import numpy as np
import pytest
import tiny_run
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from coview.core.errors import InvalidValue, StorageError
from coview.core.files import read_lines
from coview.core.machine import RUNS_HERE
from coview.core.memory import DoesNotFit
from coview.core.ranks import Ranks
from coview.training import (
    BatchLoader,
    MetricsLog,
    OptimizerSpec,
    Schedule,
    choose_precision,
    collect,
    train,
    train_step,
)
from coview.training.step import seed_torch

CPU = torch.device("cpu")


class Line(nn.Module):
    """Fits a number to the mean of a one-pixel view; ``faults`` spoils steps in chosen ways."""

    def __init__(self, faults=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("accepted", torch.zeros(()))
        self.faults, self.seen, self.parts = faults or {}, [], 0

    def loss(self, batch, step):
        self.seen.append(step)
        fault = self.faults.get(step)
        if fault == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if fault == "host memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        if fault == "cuDNN":
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        if fault == "CUDA":
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ...")
        if fault == "defect":
            raise RuntimeError("shapes differ")
        drawn = self.dropout(torch.ones(4)).sum()
        error = (self.weight - batch.views[0].mean()).square()
        terms = {"error": error + drawn * self.weight * 0.01, "size": self.weight.abs() * 0.1}
        if fault == "nan loss":
            terms["error"] = terms["error"] * float("nan")
        elif fault == "inf gradient":
            terms["error"] = error + (self.weight - self.weight.detach()).sqrt()
        return terms

    def after_step(self, step):
        self.accepted += 1

    def reduce_memory(self, images, *, exact=False):
        if self.parts == 0 or exact:
            return ""
        self.parts -= 1
        if self.parts == 0:
            self.faults = {}
        return f"parts of {images // 2}"

    def embed(self, images):
        raise NotImplementedError


def loader(total_steps=12, start_step=0, workers=0):
    ids = np.arange(20, dtype=np.int64)

    def render(rows, ids, epoch):
        return (torch.from_numpy(rows).float()[:, None, None, None] / 20,)

    return BatchLoader(
        ids, None, render, batch_size=4, seed=1, total_steps=total_steps,
        start_step=start_step, workers=workers,
    )  # fmt: skip


def run(tmp_path, task, batches=None, *, optimizer="sgd", **changes):
    batches = batches or loader()
    rule = OptimizerSpec(name=optimizer, learning_rate=0.1, weight_decay=0.01).build(task)
    metrics_log = MetricsLog(tmp_path / "metrics.jsonl", chance_level=1.0, every=4)
    saved = []
    settings = {
        "optimizer": rule, "schedule": Schedule.fixed([0.1] * 12), "metrics_log": metrics_log,
        "precision": choose_precision("fp32", CPU), "save": saved.append, **changes,
    }  # fmt: skip
    outcome = train(task, batches, **settings)
    return outcome, read_lines(tmp_path / "metrics.jsonl"), saved


def kinds(rows, kind):
    return [row for row in rows if row["kind"] == kind]


def test_loop_takes_every_step_once_and_saves_at_the_end(tmp_path):
    task = Line()
    outcome, rows, saved = run(tmp_path, task)
    assert (outcome.step, outcome.stopped, outcome.reason) == (12, False, "")
    assert task.seen == list(range(12))
    assert task.accepted == 12
    assert saved == [12]
    assert [row["step"] for row in kinds(rows, "step")] == [4, 8, 12]


def test_loop_report_has_every_figure(tmp_path):
    reports = []
    _, rows, _ = run(
        tmp_path, Line(), on_report=reports.append, schedule=Schedule.fixed(np.arange(12) / 10)
    )
    row = rows[-1]
    assert reports == rows
    assert row["learning_rate"] == pytest.approx(1.1)
    assert row["epoch"] == pytest.approx(12 / 5)
    assert row["loss"] == pytest.approx(sum(row["terms"].values()))
    assert row["images_per_second"] > 0
    assert 0 <= row["wait_share"] <= 1
    assert row["gradient_norm"] > 0
    assert rows[0]["seconds"] < rows[1]["seconds"] < rows[2]["seconds"]


def test_loop_learning_rate_of_zero_moves_nothing_but_what_counts_steps(tmp_path):
    task = Line()
    run(tmp_path, task, schedule=Schedule.fixed([0.0] * 12))
    assert task.weight == 1
    assert task.accepted == 12


def test_loop_calls_each_epoch_and_the_last_step_before_saving(tmp_path):
    calls = []
    run(
        tmp_path, Line(), save_seconds=0.0,
        on_epoch=lambda step, last: calls.append(("epoch", step)),
        save=lambda step: calls.append(("save", step)),
    )  # fmt: skip
    epochs = [step for what, step in calls if what == "epoch"]
    assert epochs == [5, 10, 12]
    for step in epochs:
        assert calls.index(("epoch", step)) < calls.index(("save", step))
    assert [step for what, step in calls if what == "save"] == list(range(1, 13))


def test_loop_saves_less_often_where_a_save_is_slow(tmp_path, monkeypatch):
    """A step takes 1 s, save_seconds are 3: a save of 0.5 s leaves them, one of 1.25 s makes 6.25."""
    for slow, expected in ((0.5, [3, 6, 9, 12]), (1.25, [3, 10, 12])):
        now, saved = [0.0], []
        monkeypatch.setattr("coview.training.loop.time.monotonic", lambda now=now: now[0])

        def save(step, now=now, saved=saved, slow=slow):
            saved.append(step)
            now[0] += slow

        def tick(now=now):
            now[0] += 1
            return ""

        run(tmp_path / str(slow), Line(), save_seconds=3.0, save=save, stop=tick)
        assert saved == expected


@pytest.mark.parametrize("fault", ["nan loss", "inf gradient"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_loop_skipped_step_changes_nothing(tmp_path, fault, optimizer):
    """Parameters, buffers and moments of a run with a bad step, and of one without that batch."""
    task, skipping = Line({6: fault}), Line()
    states = []
    for learner, batches in ((task, loader()), (skipping, loader())):
        rule = OptimizerSpec(name=optimizer, learning_rate=0.1).build(learner)
        precision = choose_precision("fp32", CPU)
        for batch in batches:
            seed_torch(1, batch.step, CPU)
            before = collect(learner, rule)
            if learner is skipping and batch.step == 6:
                continue
            step = train_step(learner, batch, rule, 0.1, precision)
            after = collect(learner, rule)
            same = before.keys() == after.keys() and all(
                torch.equal(before[name], after[name]) for name in before
            )
            assert step.skipped is same
        states.append(collect(learner, rule))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert task.accepted == 11


def test_loop_skipped_step_of_a_real_learner_is_invisible():
    learner, batches, settings = tiny_run.build("nowhere-at-all")
    rule = settings["optimizer"]
    for batch in batches:
        if batch.step == 2:
            before = collect(learner, rule)
            batch.views[0][0, 0, 0, 0] = float("nan")
            step = train_step(learner, batch, rule, 0.1, settings["precision"])
            assert step.skipped
            assert step.reason.startswith("the loss NTXent is nan")
            after = collect(learner, rule)
            assert all(torch.equal(before[name], after[name]) for name in before)
            return
        assert not train_step(learner, batch, rule, 0.1, settings["precision"]).skipped


class Waits(TorchDispatchMode):
    """Counts how often the host asks for the value of a tensor."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().startswith("aten::_local_scalar_dense")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_loop_step_waits_for_the_device_once(tmp_path, optimizer):
    learner, batches, settings = tiny_run.build(tmp_path, optimizer=optimizer)
    batch = next(iter(batches))
    with Waits() as waits:
        train_step(learner, batch, settings["optimizer"], 0.1, settings["precision"])
    assert waits.count == 1


def test_loop_records_the_images_of_a_skipped_step(tmp_path):
    _, rows, _ = run(tmp_path, Line({3: "nan loss", 8: "inf gradient"}))
    skipped = kinds(rows, "skipped")
    expected = {batch.step: batch.ids.tolist() for batch in loader()}
    assert [(row["step"], row["ids"]) for row in skipped] == [(4, expected[3]), (9, expected[8])]
    assert skipped[0]["reason"] == "the loss error is nan"
    assert skipped[1]["reason"] == "the gradient norm is inf"
    assert [row["step"] for row in kinds(rows, "step")] == [8, 12]  # step 4 had nothing to report


def test_loop_stops_after_skipped_steps_in_a_row(tmp_path):
    task = Line(dict.fromkeys(range(5, 12), "nan loss"))
    outcome, rows, saved = run(tmp_path, task, max_skipped_steps=3)
    assert (outcome.step, outcome.stopped) == (8, True)
    assert outcome.diverged
    assert "3 steps in a row were skipped" in outcome.reason
    assert saved == [8]
    assert kinds(rows, "event")[0]["text"] == outcome.reason


def test_loop_skipped_steps_apart_do_not_stop_it(tmp_path):
    outcome, _, _ = run(
        tmp_path, Line(dict.fromkeys((2, 4, 6, 8), "nan loss")), max_skipped_steps=2
    )
    assert not outcome.stopped


def test_loop_asked_to_stop_saves_and_leaves(tmp_path):
    task = Line()
    outcome, rows, saved = run(tmp_path, task, stop=lambda: "enough" if len(task.seen) == 7 else "")
    assert (outcome.step, outcome.stopped, outcome.reason) == (7, True, "enough")
    assert not outcome.diverged
    assert saved == [7]
    assert kinds(rows, "event") == [{"kind": "event", "step": 7, "text": "enough"}]


def test_loop_goes_on_where_a_checkpoint_cannot_be_written(tmp_path, capsys):
    def refuse(step):
        raise StorageError("Could not write it: No space left on device.")

    tries = iter([refuse, refuse, print, print])
    outcome, rows, _ = run(
        tmp_path,
        Line(),
        batches=loader(total_steps=4),
        save=lambda s: next(tries)(s),
        save_seconds=0,
    )
    assert not outcome.stopped
    events = kinds(rows, "event")
    assert [event["step"] for event in events] == [1, 2]
    assert "No space left" in events[0]["text"]
    assert "No space left" in capsys.readouterr().out


@pytest.mark.parametrize("stop", ["", "enough"])
def test_loop_never_ends_as_if_saved_where_the_disk_refuses(tmp_path, stop):
    def refuse(step):
        raise StorageError("Could not write it: No space left on device.")

    with pytest.raises(StorageError, match="No space left"):
        run(tmp_path, Line(), save=refuse, stop=lambda: stop)


MEMORY_FAULTS = ["memory", "host memory", "cuDNN", "CUDA"]


@pytest.mark.parametrize("fault", MEMORY_FAULTS)
def test_loop_batch_that_does_not_fit_is_one_sentence(tmp_path, fault):
    with pytest.raises(InvalidValue, match=r"4 images does not fit .* set `batch_size` to 2"):
        run(tmp_path, Line({1: fault}))


def test_one_of_several_processes_is_told_first_what_leaves_the_loss_alone():
    rule = torch.optim.SGD(Line().parameters())
    precision = choose_precision("fp32", CPU)
    alone, several = Ranks(), Ranks(world=2)
    said = {}
    for ranks in (alone, several):
        with pytest.raises(DoesNotFit) as error:
            train_step(Line({0: "memory"}), next(iter(loader())), rule, 0.1, precision, ranks)
        said[ranks] = str(error.value)
    names = ("`activation_checkpointing`, which is exact", "`micro_batch`", "`batch_size` to 2")
    places = [said[several].index(name) for name in names]
    assert places == sorted(places)
    assert "`micro_batch`" not in said[alone]  # the loop has tried both


def test_one_of_several_runs_is_told_that_fewer_may_fit(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_HERE, "3")
    with pytest.raises(DoesNotFit, match=r"of cpu, which 3 runs share \(`jobs`\); start fewer of"):
        run(tmp_path, Line({1: "memory"}))


def test_loop_a_message_that_may_mean_something_else_is_passed_on(tmp_path):
    with pytest.raises(InvalidValue, match=r"cpu \(GET was unable to find an engine to execute"):
        run(tmp_path, Line({1: "cuDNN"}))


@pytest.mark.parametrize("fault", MEMORY_FAULTS)
def test_loop_batch_that_does_not_fit_goes_on_in_parts_at_the_same_step(tmp_path, fault):
    task = Line({3: fault})
    task.parts = 2
    outcome, rows, _ = run(tmp_path, task)
    reference = Line()
    _, expected, _ = run(tmp_path / "whole", reference)
    assert outcome.step == 12
    assert task.seen == [0, 1, 2, 3, 3, *range(3, 12)]
    assert torch.equal(task.weight, reference.weight)
    assert [row["text"] for row in rows if row["kind"] == "event"] == ["parts of 2 parts of 2"]
    losses = [[row["loss"] for row in each if row["kind"] == "step"] for each in (rows, expected)]
    assert losses[0] == losses[1]


def test_loop_exact_run_whose_batch_does_not_fit_is_not_changed(tmp_path):
    task = Line({3: "memory"})
    task.parts = 2
    with pytest.raises(DoesNotFit, match=r"set `batch_size` to 2.* given as a value .*`passes`"):
        run(tmp_path, task, exact=True)
    assert task.parts == 2


def test_loop_other_errors_keep_their_kind(tmp_path):
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(tmp_path, Line({1: "defect"}))


def test_loop_randomness_inside_the_network_is_a_function_of_the_step():
    """Dropout of steps 6 to 11 is the same whether steps 0 to 5 came before or not."""

    def losses(batches):
        task, found = Line(), {}
        for batch in batches:
            seed_torch(batches.seed, batch.step, CPU)
            found[batch.step] = float(task.loss(batch, batch.step)["error"].detach())
        return found

    whole, later = losses(loader()), losses(loader(start_step=6))
    assert {step: whole[step] for step in later} == later


def test_loop_seeds_every_step(tmp_path):
    """The same run twice, whatever the caller's generator says, with dropout in the network."""
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        task = Line()
        run(tmp_path, task)
        weights.append(task.weight.item())
    assert weights[0] == weights[1]


def test_loop_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    run(tmp_path, Line())
    assert torch.equal(torch.rand(3), expected)


def test_loop_with_bf16_learns_and_keeps_float32_weights(tmp_path):
    learner, batches, settings = tiny_run.build(tmp_path, total_steps=6)
    settings["precision"] = choose_precision("bf16", CPU)
    outcome = train(learner, batches, **settings)
    assert outcome.step == 6
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert kinds(read_lines(tmp_path / "metrics.jsonl"), "skipped") == []


def test_loop_lowers_the_loss(tmp_path):
    """Small, but the whole of it: 60 steps on noise end below where they began."""
    learner, batches, settings = tiny_run.build(tmp_path, total_steps=60)
    train(learner, batches, **settings)
    rows = kinds(read_lines(tmp_path / "metrics.jsonl"), "step")
    assert np.mean([row["loss"] for row in rows[-4:]]) < rows[0]["loss"] - 0.1

"""The step, optimisers, schedules, precision, checkpoints, health; knows no method by name."""

from coview.training.checkpoints import Checkpoint, Checkpoints
from coview.training.feed import Feed
from coview.training.lars import Lars
from coview.training.loop import Outcome, train
from coview.training.optimisers import OptimiserSpec
from coview.training.precision import Precision, choose_device, choose_precision
from coview.training.schedules import ScheduleSpec, steps_per_epoch, warmup_cosine
from coview.training.signals import StopSignals
from coview.training.state import collect, restore
from coview.training.step import Step, take_step
from coview.training.task import Task
from coview.training.telemetry import Telemetry

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Feed",
    "Lars",
    "OptimiserSpec",
    "Outcome",
    "Precision",
    "ScheduleSpec",
    "Step",
    "StopSignals",
    "Task",
    "Telemetry",
    "choose_device",
    "choose_precision",
    "collect",
    "restore",
    "steps_per_epoch",
    "take_step",
    "train",
    "warmup_cosine",
]

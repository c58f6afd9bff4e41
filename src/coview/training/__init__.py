"""The step, optimisers, schedules, precision, distribution, checkpoints, health.

Knows no method by name.
"""

from coview.training.checkpoints import Checkpoint, Checkpoints
from coview.training.class_order import ClassOrder
from coview.training.distribution import (
    agreed_reason,
    average_gradients,
    joined,
    own_device,
    same_everywhere,
)
from coview.training.feed import Feed, KeyedOrder, Order
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
    "ClassOrder",
    "Feed",
    "KeyedOrder",
    "Lars",
    "OptimiserSpec",
    "Order",
    "Outcome",
    "Precision",
    "ScheduleSpec",
    "Step",
    "StopSignals",
    "Task",
    "Telemetry",
    "agreed_reason",
    "average_gradients",
    "choose_device",
    "choose_precision",
    "collect",
    "joined",
    "own_device",
    "restore",
    "same_everywhere",
    "steps_per_epoch",
    "take_step",
    "train",
    "warmup_cosine",
]

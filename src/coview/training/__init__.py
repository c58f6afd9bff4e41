"""The training step and loop, optimizers, schedules, precision, distribution, checkpoints.

Everything that trains is a :class:`Task`; no method is known here.
"""

from coview.training.checkpoints import Checkpoint, Checkpoints
from coview.training.class_balanced_sampler import ClassBalancedSampler
from coview.training.distribution import (
    agreed_reason,
    assert_replicas_equal,
    init_distributed,
    local_device,
)
from coview.training.lars import LARS
from coview.training.loader import BatchLoader, RandomSampler, Sampler
from coview.training.loop import Outcome, train
from coview.training.metrics_log import MetricsLog
from coview.training.optimizers import OptimizerSpec
from coview.training.pace import Pace
from coview.training.precision import Precision, choose_device, choose_precision
from coview.training.schedules import ScheduleSpec, StepSchedule, steps_per_epoch, warmup_cosine
from coview.training.signals import StopSignals
from coview.training.state import collect, restore
from coview.training.step import Step, average_gradients, train_step
from coview.training.task import Task
from coview.training.timeline import Schedule, Timeline

__all__ = [
    "LARS", "BatchLoader", "Checkpoint", "Checkpoints", "ClassBalancedSampler", "MetricsLog",
    "OptimizerSpec", "Outcome", "Pace", "Precision", "RandomSampler", "Sampler", "Schedule",
    "ScheduleSpec", "Step", "StepSchedule", "StopSignals", "Task", "Timeline", "agreed_reason",
    "assert_replicas_equal", "average_gradients", "choose_device", "choose_precision", "collect",
    "init_distributed", "local_device", "restore", "steps_per_epoch", "train", "train_step",
    "warmup_cosine",
]  # fmt: skip

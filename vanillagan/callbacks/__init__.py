"""Callbacks that come with the library."""

from vanillagan.callbacks.checkpointing import BestCheckpoint, Checkpoint
from vanillagan.callbacks.display import ConsoleLog, Progress, ProgressBar
from vanillagan.callbacks.guards import GradientClip, NaNGuard, StopOnSignal
from vanillagan.callbacks.health.monitor import HealthMonitor
from vanillagan.callbacks.logs import CSVLog, TensorBoardLog
from vanillagan.callbacks.lr_schedule import LRSchedule
from vanillagan.callbacks.metric_log import MetricLog
from vanillagan.callbacks.sample_grid import SampleGrid

__all__ = [
    "BestCheckpoint",
    "CSVLog",
    "Checkpoint",
    "ConsoleLog",
    "GradientClip",
    "HealthMonitor",
    "LRSchedule",
    "MetricLog",
    "NaNGuard",
    "Progress",
    "ProgressBar",
    "SampleGrid",
    "StopOnSignal",
    "TensorBoardLog",
]

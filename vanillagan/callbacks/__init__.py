"""The callbacks that come with the library."""

from vanillagan.callbacks.checkpoints import Checkpoint
from vanillagan.callbacks.guards import GradientClip, NaNGuard, StopOnSignal
from vanillagan.callbacks.health import HealthMonitor
from vanillagan.callbacks.logs import CSVLog, TensorBoardLog
from vanillagan.callbacks.metrics import MetricLog
from vanillagan.callbacks.progress import ConsoleLog, ProgressBar
from vanillagan.callbacks.samples import SampleGrid
from vanillagan.callbacks.schedules import LRSchedule

__all__ = [
    "CSVLog",
    "Checkpoint",
    "ConsoleLog",
    "GradientClip",
    "HealthMonitor",
    "LRSchedule",
    "MetricLog",
    "NaNGuard",
    "ProgressBar",
    "SampleGrid",
    "StopOnSignal",
    "TensorBoardLog",
]

"""Detection of known failures of GAN training."""

from vanillagan.callbacks.health.monitor import HealthMonitor

__all__ = ["HealthMonitor"]

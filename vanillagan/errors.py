"""Exceptions and warnings of the library, and the import of optional packages.

An invalid argument raises a `ValueError` or a `TypeError` in the call that received it.
"""

from __future__ import annotations

import importlib
import sys
from traceback import walk_stack
from types import ModuleType

__all__ = [
    "CheckpointError",
    "DivergenceError",
    "MissingExtraError",
    "TrainingHealthWarning",
    "VanillaGANError",
    "require",
    "stacklevel_of_user",
]


class VanillaGANError(Exception):
    """Base class of the library's errors."""


class CheckpointError(VanillaGANError, ValueError):
    """Raised for a file that is not a checkpoint, is damaged, or does not fit the trainer."""


class DivergenceError(VanillaGANError, ArithmeticError):
    """Raised when a value of a run has become NaN, infinite or huge."""


class MissingExtraError(VanillaGANError, ImportError):
    """Raised for an optional package that is not installed; names the extra that installs it."""


class TrainingHealthWarning(UserWarning):
    """Warning of a known failure of GAN training, with a remedy."""


def require(module: str, *, extra: str, user: str) -> ModuleType:
    """Import an optional `module` for `user`; raise an error that names its extra if missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs the package {module.partition('.')[0]!r}: "
            f"pip install 'vanillagan[{extra}]'"
        ) from error


def stacklevel_of_user() -> int:
    """Return the `stacklevel` with which a warning of the caller names the user's line.

    It is that of the outermost call of the library, such as `fit`. The depth is not fixed: a
    subclass may override the methods in between.
    """
    callers = enumerate(walk_stack(sys._getframe(1)), start=2)
    names = {level: frame.f_globals.get("__name__", "") for level, (frame, _) in callers}
    return max(level for level, name in names.items() if name.startswith("vanillagan."))

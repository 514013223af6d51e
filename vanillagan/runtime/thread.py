"""The thread that trains, which alone may read or change the state of the run."""

from __future__ import annotations

import threading

__all__ = ["TrainingThread"]


class TrainingThread:
    """Context in which `fit` runs: other threads would find a state between two steps.

    Example:
        >>> with TrainingThread() as training:
        ...     training.check("save")
    """

    def __init__(self) -> None:
        self._thread: int | None = None

    def __enter__(self) -> TrainingThread:
        self._thread = threading.get_ident()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread = None

    def check(self, method: str, *, in_hooks: bool = True) -> None:
        """Raise a RuntimeError if another thread is training, or a hook calls what it must not."""
        is_here = self._thread == threading.get_ident()
        if self._thread is not None and not (is_here and in_hooks):
            place = "in a hook of `fit`" if is_here else "while `fit` runs in another thread"
            remedy = "in a hook, or after `fit`" if in_hooks else "after `fit`"
            raise RuntimeError(f"`{method}` must not be called {place} (call it {remedy})")

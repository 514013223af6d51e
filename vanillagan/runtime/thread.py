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
        self._threads: list[int] = []

    def __enter__(self) -> TrainingThread:
        self._threads.append(threading.get_ident())
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.pop()

    def check(self, method: str) -> None:
        """Raise a RuntimeError if another thread is training."""
        if self._threads and self._threads[-1] != threading.get_ident():
            raise RuntimeError(
                f"`{method}` must not be called while `fit` runs in another thread (call it in a "
                "hook of a callback, or after `fit`)"
            )

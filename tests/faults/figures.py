"""The figures of one kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Check", "Figures"]


@dataclass
class Figures:
    """Counts of one kind of fault.

    Attributes:
        tried: Faults that were made.
        failed: Those that ended in another way than documented, such as in an unclear error.
        lost: Those after which something was lost that had been saved, or was silently wrong.
        examples: The first of those that failed or lost something, to look at.
    """

    tried: int = 0
    failed: int = 0
    lost: int = 0
    examples: list[str] = field(default_factory=list)

    def fail(self, example: str, *, lost: bool = False) -> None:
        """Count a failure."""
        self.failed += not lost
        self.lost += lost
        if len(self.examples) < 20:
            self.examples.append(example)


Check: TypeAlias = Callable[[bool], Figures]
"""Function from "is this the long profile?" to the figures."""

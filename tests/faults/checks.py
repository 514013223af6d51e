"""The checks by name, in the order of the table."""

from __future__ import annotations

from tests.faults.figures import Check

CHECKS: dict[str, Check] = {}

"""The short profile of all checks."""

from __future__ import annotations

import pytest

from tests.faults.checks import CHECKS


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_nothing_is_lost_and_nothing_ends_in_an_unclear_error(name: str) -> None:
    figures = CHECKS[name](False)
    assert figures.tried > 0
    assert figures.failed == figures.lost == 0, figures.examples

"""The short profile of all checks, and how the docs call them."""

from __future__ import annotations

import re

import pytest

from tests.faults.checks import CHECKS
from tests.helpers.scripts import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_nothing_is_lost_and_nothing_ends_in_an_unclear_error(name: str) -> None:
    figures = CHECKS[name](False)
    assert figures.tried > 0
    assert figures.failed == figures.lost == 0, "\n".join(figures.examples)


def test_commands_in_the_docs_name_checks_that_exist() -> None:
    pages = [ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    commands = re.findall(r"python -m tests\.faults ([^\n`]+)", text)
    assert len(commands) >= 3
    assert {name for command in commands for name in command.split()} <= set(CHECKS)

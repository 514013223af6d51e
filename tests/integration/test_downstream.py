"""The program of a user runs; type checkers read it in `.ci/run`, against the built wheel."""

from __future__ import annotations

from tests.downstream import program


def test_the_program_of_a_user_runs(tmp_path):
    program.main(tmp_path)

"""What the library survives: faults made on purpose, in numbers.

`pytest` runs the short profile, `python -m tests.faults` the long one, which prints the table of
`docs/results/reliability.md`.
"""

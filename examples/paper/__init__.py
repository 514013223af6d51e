"""Parts of examples/paper.py."""

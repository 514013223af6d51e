"""Tests on a real CUDA device; they are skipped where there is none."""

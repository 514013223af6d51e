"""Tests of training on a CUDA device; those of CUDA graphs are skipped where there is none."""

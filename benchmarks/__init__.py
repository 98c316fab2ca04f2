"""Measurements, as ratios in one run wherever time is concerned; `python -m benchmarks [name …]` runs and records."""

"""Speed as ratios against named baselines: ``python -m benchmarks [NAME ...]``."""

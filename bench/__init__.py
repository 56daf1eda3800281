"""Speeds of the product, measured: `python -m bench --help`. Figures are ratios to targets and to
baselines taken in the same run, because machines differ and are noisy."""

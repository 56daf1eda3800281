"""Guarded rollout: what is proved about a step, and whether to go on. Pure (docs/rollout-statistics.md)."""

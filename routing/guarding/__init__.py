"""Guarded rollout in service: what is stored, measured, judged and written. The judgement itself is routing.rollout."""

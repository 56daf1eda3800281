"""Off-policy evaluation: what a candidate policy would have come to, from logged decisions and their propensities.

Not replay (routing.replaying), which needs outcomes of models that were not given. docs/evaluate.md explains both.
"""

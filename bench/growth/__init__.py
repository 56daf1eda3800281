"""How costs grow with tenants, overrides, candidates, scopes and events: `python -m bench.growth` prints the curves."""

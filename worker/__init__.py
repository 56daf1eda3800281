"""Who asks: a worker that selects a profile, calls it, and reports what happened. No Django anywhere.

docs/worker.md has a quick start, the guarantees and what happens when something is down.
"""

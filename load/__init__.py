"""Load tests: `python -m load` (`make load`) starts the product apart on real servers, loads it, counts what is kept.

Development only. Locust runs as a process of its own; nothing here imports it but `load/users/`.
"""

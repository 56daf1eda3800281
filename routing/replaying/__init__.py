"""Recorded outcomes replayed under any policy: what it would have cost, and how often it would have failed.

Not to be mixed up with ``routing.replay``, which decides one stored decision again to prove it reproducible. Here
nothing is stored: outcomes come from a file, and ``manage.py replay`` reports. Pure but for reading the file.
"""

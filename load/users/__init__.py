"""Locustfiles: what runs inside the locust process. Everything else of the load test runs outside it.

Importing locust replaces the standard library's sockets and threads, so these modules are never imported, but run.
"""

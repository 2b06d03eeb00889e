"""Runs jobs: what a worker process does, and what its supervisor does for it.

A `worker` process turns its lease loops (`leasing/loop`: settle and lease) and hands
jobs to its slots (`execution/slots`); `leasing/capacity` is what it holds and may still
take. The `supervisor` starts processes, reads what they show in `shared_memory`, keeps
their leases alive in `heartbeat` and does the rest in `background`.
"""

"""Runs jobs: what a worker process does, and what its supervisor does for it.

A `worker` process turns its `cycle` (lease and settle) and hands jobs to its `slots`;
`intake` is what it holds and may still take. The supervisor starts `processes`, reads
their `board`, keeps their leases alive in `heartbeat` and sees to its other `duties`.
"""

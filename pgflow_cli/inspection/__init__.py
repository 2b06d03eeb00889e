"""Reads and never changes: queues, job lists, metrics, explanations, diagnosis."""

"""Telemetry of a process: logs, spans, counters, sd_notify and its status file."""

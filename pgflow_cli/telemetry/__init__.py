"""What a process says of itself: logs, spans, counters, systemd, its status file."""

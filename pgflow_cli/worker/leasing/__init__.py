"""What a worker process asks of PostgreSQL: to lease, and to settle what ended."""

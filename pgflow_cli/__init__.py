"""pgflow: a PostgreSQL job queue that is operated from a terminal."""

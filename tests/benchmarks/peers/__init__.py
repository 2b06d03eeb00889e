"""Job queues beside each other: pgflow and its peers on one server in one run."""

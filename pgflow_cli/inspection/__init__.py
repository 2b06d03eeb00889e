"""What only looks: queues, job lists, metrics, explanations, diagnosis."""

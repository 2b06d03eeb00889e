-- Listen for jobs for idle workers; the payload is the queue.
listen pgflow

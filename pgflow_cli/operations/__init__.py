"""Changes of jobs and queues: enqueue, replay, cancel, pause, discard, fence."""

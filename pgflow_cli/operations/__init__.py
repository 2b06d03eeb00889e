"""What changes the queue: enqueue, replay, cancel, pause, discard, fence."""

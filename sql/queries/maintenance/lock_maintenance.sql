-- Be the one who maintains, until the transaction ends. Nobody who reads, and no dump, waits for this lock.
lock table pgflow.maintenance_lock in exclusive mode

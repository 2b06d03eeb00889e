-- Lock maintenance until the transaction ends. Readers and dumps do not wait for this lock.
lock table pgflow.maintenance_lock in exclusive mode

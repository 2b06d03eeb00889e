-- Be the first statement of several that are sent in one go: only from the second on are they one transaction to the
-- server, which warns of `set transaction` outside of one. It takes no snapshot, after which that would be too late.
show transaction_isolation

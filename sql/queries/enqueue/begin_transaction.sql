-- Begin the caller's transaction, as any first statement does; it needs no name of a path that may find anything first.
select true as has_begun

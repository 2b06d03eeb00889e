-- Begin the caller's transaction, as any first statement does; it uses no name, because the caller's search_path may
-- find another function first.
select true as has_begun

-- Let each statement of this transaction see what was committed before it, whatever the role's default.
set transaction isolation level read committed, not deferrable

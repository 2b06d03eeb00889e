-- First in its transaction: all its statements see one snapshot, and now() is one instant.
set transaction isolation level repeatable read, read only

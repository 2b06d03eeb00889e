-- Let this transaction write, whatever the role's default.
set transaction read write

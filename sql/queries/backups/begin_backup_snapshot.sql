-- The first statement of its transaction: one snapshot is dumped, counted and compared.
set transaction isolation level repeatable read

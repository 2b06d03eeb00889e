-- First in its transaction: what is dumped, counted and compared is of one instant.
set transaction isolation level repeatable read

-- Keep this transaction open while another connection works, whatever timeouts the role has; not every server knows all
-- of them.
select set_config(name, '0', true)
from pg_settings
where name in ('idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')

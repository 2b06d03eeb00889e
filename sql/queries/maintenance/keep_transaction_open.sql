-- Let this transaction last while another connection works, whatever the role's defaults; some are newer than others.
select set_config(name, '0', true)
from pg_settings
where name in ('idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')

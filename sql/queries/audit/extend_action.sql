-- Count jobs that an action has touched, in the transaction that touches them; the first thousand by name.
update pgflow.operator_actions
set jobs = jobs + %(jobs)s::bigint,
    job_ids = (job_ids || %(job_ids)s::uuid[])[:1000]
where id = %(action_id)s::bigint

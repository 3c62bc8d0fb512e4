-- Owned by src/settings.
-- What must be equal on all nodes, and the one clock that every statement reads.

-- Every statement that needs the time calls this function, so that tests can move time by replacing it.
create function authority_now() returns timestamptz
    language sql stable parallel safe
    as $$ select statement_timestamp() $$;

create table settings (
    one                 boolean primary key default true check (one),
    -- Names this installation for ever; a restored or promoted copy keeps it.
    installation        uuid    not null default gen_random_uuid(),
    lease_ms            integer not null default 2000 check (lease_ms between 1000 and 60000),
    -- The lease before the last change: calls that wait for a lease wait for the longer of the two.
    previous_lease_ms   integer not null default 2000 check (previous_lease_ms between 1000 and 60000),
    session_ttl_seconds integer not null default 900 check (session_ttl_seconds between 60 and 3600),
    audit_days          integer not null default 400 check (audit_days between 1 and 36500),
    prod_max_age_days   integer not null default 90 check (prod_max_age_days between 1 and 3650),
    dev_max_age_days    integer not null default 90 check (dev_max_age_days between 1 and 3650),
    -- Why a maximum above 90 days was set; required then.
    policy_reason       text,
    updated_at          timestamptz not null default authority_now(),
    check (greatest(prod_max_age_days, dev_max_age_days) <= 90 or policy_reason is not null)
);
insert into settings default values;

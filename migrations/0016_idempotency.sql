-- Owned by src/idempotency.
-- Outcomes of requests that carried an Idempotency-Key, without their secrets.
create table idempotency_keys (
    operator    text        not null,
    route       text        not null,
    key         text        not null check (length(key) between 1 and 255),
    -- SHA-256 of the request's path and body.
    fingerprint bytea       not null check (length(fingerprint) = 32),
    -- Null while the first request runs.
    status      integer,
    body        text,
    created_at  timestamptz not null default authority_now(),
    primary key (operator, route, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);

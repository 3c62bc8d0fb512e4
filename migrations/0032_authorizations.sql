-- Owned by src/authorizations.
-- Authorization requests on their way from a client to a code, and what happened to them.

create table flows (
    id          text        primary key check (id ~ '^flw_[0-9a-f]{32}$'),
    -- As it was asked; whoever asked may not exist.
    client_id   text        not null,
    server_id   text,
    user_id     text,
    -- How many steps were written; there is an end to them.
    steps       integer     not null default 0,
    created_at  timestamptz not null default authority_now(),
    expires_at  timestamptz not null
);
create index flows_created on flows (created_at desc, id desc);
create index flows_client on flows (client_id, created_at desc, id desc);
create index flows_expires on flows (expires_at);

-- What happened, step by step, without secrets: for the operator whom somebody asks why it does not work.
create table flow_steps (
    flow_id text        not null references flows on delete cascade,
    number  integer     not null,
    step    text        not null,
    -- Null: it went well. Else a stable code.
    code    text,
    detail  text,
    at      timestamptz not null default authority_now(),
    primary key (flow_id, number)
);

-- A request that was checked and waits for a person.
create table authorization_requests (
    flow_id    text        primary key references flows on delete cascade,
    -- RFC 9126: SHA-256 of the reference's secret part; null when it came through the browser.
    pushed     bytea       unique,
    -- The request's parameters, checked; with the consent that was given, and with whom the person signs in.
    request    jsonb       not null,
    -- SHA-256 of the cookie of the browser that it belongs to.
    browser    bytea,
    -- SHA-256 of the `state` at the provider, and what must be known when it answers, sealed. Made after the consent, used
    -- once.
    state      bytea       unique,
    provider_id text,
    secret_key text,
    upstream   bytea,
    expires_at timestamptz not null
);
create index authorization_requests_expires on authorization_requests (expires_at);

create table authorization_codes (
    -- SHA-256 of the code.
    digest         bytea       primary key check (length(digest) = 32),
    flow_id        text        not null,
    consent_id     text        not null,
    user_id        text        not null,
    -- The client's own id, `cli_…`.
    client_id      text        not null,
    server_id      text        not null,
    permissions    text[]      not null,
    redirect_uri   text        not null,
    -- Base64url of SHA-256 (RFC 7636 §4.2).
    code_challenge text        not null,
    -- RFC 9449 §10: the key that it is bound to.
    jkt            text,
    -- Whether `offline_access` was asked for.
    offline        boolean     not null default false,
    -- What a node must have applied before it can honour the code: the consent stands there.
    history        bigint      not null,
    number         bigint      not null,
    created_at     timestamptz not null default authority_now(),
    expires_at     timestamptz not null,
    used_at        timestamptz,
    -- What came of it: revoked when the code is shown again.
    family_id      text
);
create index authorization_codes_expires on authorization_codes (expires_at);

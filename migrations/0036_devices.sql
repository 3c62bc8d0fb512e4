-- Owned by src/authorizations.
-- Flows as operators find them, and device authorizations (RFC 8628).

-- The server's project, or the client's while no server is known; and how the last step ended.
alter table flows
    add column project text,
    add column result  text not null default 'open' check (result in ('open', 'refused', 'done'));
create index flows_user on flows (user_id) where user_id is not null;
create index flows_project on flows (project) where project is not null;
create index flows_result on flows (result);

-- Consents as operators find them.
create index consents_created on consents (created_at desc, id desc);

create table device_authorizations (
    flow_id     text        primary key,
    -- SHA-256 of the device code.
    device_code bytea       not null unique check (length(device_code) = 32),
    -- What people type, without its dash. It opens nothing by itself: the page asks whoever types it.
    user_code   text        not null unique check (user_code ~ '^[BCDFGHJKLMNPQRSTVWXZ]{8}$'),
    -- As it stands on the wire: a client that describes itself has no row before somebody agrees to it.
    client_id   text        not null,
    -- What was asked for, checked.
    request     jsonb       not null,
    -- The network that asked, so that there is an end to what one asks for.
    address     text        not null,
    state       text        not null default 'pending' check (state in ('pending', 'approved', 'denied', 'redeemed')),
    -- How often its code was typed.
    tries       integer     not null default 0,
    -- Seconds that the device must leave between two questions; more with each that comes too soon.
    pace        integer     not null,
    asked_at    timestamptz,
    -- Who agreed to what, and what a node must have applied before it can honour that.
    user_id     text,
    consent_id  text,
    server_id   text,
    permissions text[],
    history     bigint,
    number      bigint,
    -- What came of it: revoked when the device code is shown again.
    family_id   text,
    created_at  timestamptz not null default authority_now(),
    expires_at  timestamptz not null,
    check (state <> 'approved' or (user_id is not null and consent_id is not null and server_id is not null
                                   and permissions is not null and history is not null and number is not null))
);
create index device_authorizations_client on device_authorizations (client_id, expires_at);
create index device_authorizations_address on device_authorizations (address, expires_at);
create index device_authorizations_expires on device_authorizations (expires_at);

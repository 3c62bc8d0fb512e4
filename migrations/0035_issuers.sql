-- Owned by src/issuers.
-- Whose assertions are grants (RFC 7523 §2.1): of platforms that vouch for workloads, and of providers that vouch for people.
set local lock_timeout = '5s';

-- Identity assertions of this provider stand for its people. Two providers with one issuer could not be told apart by them.
alter table providers add column enterprise_managed boolean not null default false;
create unique index providers_enterprise_managed on providers ((settings ->> 'issuer')) where enterprise_managed and deleted_at is null;

-- What of a consent the person itself agreed to. The rest its provider gave in its place, and no page is skipped for that.
alter table consents add column own text[] not null default '{}';
update consents set own = permissions;

-- Who vouches for workloads. They belong to no project: who can name the keys of an issuer speaks for all its workloads.
create table issuers (
    id         text        primary key check (id ~ '^iss_[0-9a-f]{32}$'),
    name       text        not null,
    -- As it stands in tokens, byte by byte.
    issuer     text        not null unique,
    -- Null: found by the issuer's own configuration.
    jwks_uri   text,
    -- Null: our own name, or the token endpoint's address.
    audience   text,
    disabled   boolean     not null default false,
    created_at timestamptz not null default authority_now()
);
create index issuers_created on issuers (created_at desc, id desc);

-- Which workload acts as which client.
create table issuer_rules (
    issuer_id text    not null references issuers on delete cascade,
    position  integer not null,
    -- An object: each claim, and what it must be; a star at the end stands for any rest.
    claims    jsonb   not null,
    client_id text    not null references clients,
    primary key (issuer_id, position)
);
create index issuer_rules_client on issuer_rules (client_id);

-- Assertions that were used, until they expire: each is good once, on whatever node (RFC 7523 §3). By the issuer's name and
-- not by its row: what was used stays used when the row is made anew.
create table used_assertions (
    issuer     text        not null,
    -- SHA-256 of the `jti`.
    jti        bytea       not null check (length(jti) = 32),
    expires_at timestamptz not null,
    primary key (issuer, jti)
);
create index used_assertions_expires on used_assertions (expires_at);

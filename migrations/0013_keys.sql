-- Owned by src/keys.
create table keys (
    id              text        primary key check (id ~ '^key_[0-9A-Za-z]{12}$'),
    agent_id        text        not null references agents,
    name            text,
    environment     text        not null check (environment in ('prod', 'dev')),
    allowed_cidrs   text[],
    -- May be shown to an MCP server itself; else it is good at the token endpoint only.
    direct          boolean     not null,
    self_rotation   boolean     not null default false,
    -- The life of each version of its secret.
    expires_in_days integer     not null check (expires_in_days > 0),
    disabled        boolean     not null default false,
    created_at      timestamptz not null default authority_now(),
    -- For lists; what checks read is the revocation list.
    revoked_at      timestamptz
);
create index keys_created on keys (created_at desc, id desc);
create index keys_agent on keys (agent_id, created_at desc, id desc);
create constraint trigger feed_keys after insert or update or delete on keys
    deferrable initially deferred for each row execute function feed_note('key', 'id');

create table key_roles (
    key_id  text not null references keys,
    role_id text not null references roles,
    primary key (key_id, role_id)
);
create index key_roles_role on key_roles (role_id);
create constraint trigger feed_key_roles after insert or update or delete on key_roles
    deferrable initially deferred for each row execute function feed_note('key', 'key_id');

-- How often a credential was asked about, by minute and outcome. Written behind.
create table introspections (
    minute     timestamptz not null,
    -- The key's id, or empty for credentials that do not exist.
    credential text        not null,
    server_id  text        not null,
    outcome    text        not null,
    client_ip  text        not null default '',
    count      bigint      not null,
    primary key (credential, minute, server_id, outcome, client_ip)
);
create index introspections_minute on introspections (minute);

-- Owned by src/tools.
-- What each server offers: the tools that may be called, what arguments they take and what they cost.
set local lock_timeout = '5s';

-- Counts the changes of a server's tools. Nodes are told of a changed catalogue once, as of a change of its server,
-- however many tools changed with it.
alter table servers add column tools_revision bigint not null default 0;

create table tools (
    id               text        primary key check (id ~ '^tool_[0-9a-f]{32}$'),
    server_id        text        not null references servers,
    name             text        not null,
    description      text,
    -- JSON Schema of its arguments. It compiled when it was written.
    input_schema     jsonb,
    price_micros     bigint      not null default 0 check (price_micros >= 0),
    tags             text[]      not null default '{}' check (tags <@ array['read_only', 'expensive']),
    calls_per_minute integer     check (calls_per_minute > 0),
    created_at       timestamptz not null default authority_now(),
    updated_at       timestamptz not null default authority_now(),
    unique (server_id, name)
);
create index tools_created on tools (server_id, created_at desc, id desc);

-- Owned by src/servers.
create table servers (
    id          text        primary key check (id ~ '^srv_[0-9A-Za-z]{12}$'),
    name        text        not null,
    project     text        not null references projects,
    -- As registered, and in the canonical form that is unique. A deleted server's stays reserved.
    resource    text        not null,
    canonical   text        not null unique,
    environment text        not null check (environment in ('prod', 'dev')),
    scopes      jsonb       not null default '[]',
    token_alg   text        not null default 'EdDSA' check (token_alg in ('EdDSA', 'ES256', 'RS256')),
    disabled    boolean     not null default false,
    created_at  timestamptz not null default authority_now(),
    deleted_at  timestamptz
);
create index servers_created on servers (created_at desc, id desc) where deleted_at is null;
create index servers_project on servers (project, created_at desc, id desc) where deleted_at is null;
create constraint trigger feed_servers after insert or update or delete on servers
    deferrable initially deferred for each row execute function feed_note('server', 'id');

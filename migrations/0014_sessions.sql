-- Owned by src/sessions.
-- Each session token that was issued. No foreign keys: rows come many thousand a second and are dropped when expired.
create table sessions (
    id          text        primary key check (id ~ '^ses_[0-9a-f]{32}$'),
    key_id      text        not null,
    key_version integer     not null,
    agent_id    text        not null,
    server_id   text        not null,
    permissions text[]      not null,
    -- Who acts for the subject, and the tokens, keys and agents it hangs on beside its own key.
    act         jsonb,
    ancestors   text[]      not null default '{}',
    client_ip   inet,
    history     bigint      not null,
    number      bigint      not null,
    kid         text        not null,
    issued_at   timestamptz not null,
    expires_at  timestamptz not null
);
create index sessions_key on sessions (key_id, issued_at desc, id desc);
create index sessions_agent on sessions (agent_id, issued_at desc, id desc);
create index sessions_server on sessions (server_id, issued_at desc, id desc);
create index sessions_expires on sessions (expires_at);
create index sessions_issued on sessions (issued_at desc, id desc);

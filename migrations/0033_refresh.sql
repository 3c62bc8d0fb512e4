-- Owned by src/sessions.
-- Sessions of people and of clients, and refresh tokens.
set local lock_timeout = '5s';

alter table sessions alter column key_id drop not null, alter column key_version drop not null, alter column agent_id drop not null,
    add column client_id text, add column user_id text, add column consent_id text, add column family_id text;
create index sessions_user on sessions (user_id, id) where user_id is not null;
create index sessions_client on sessions (client_id, id) where client_id is not null;

create or replace view session_list as
select s.id, s.agent_id, s.key_id, s.server_id, s.permissions, s.act, host(s.client_ip) as client_ip, s.issued_at, s.expires_at,
       case when exists (select from revocations r
                          where (r.kind, r.target) in (('token', s.id), ('token', s.family_id), ('key', s.key_id), ('signing_key', s.kid)))
              or exists (select from revocations r
                          where (r.kind, r.target) in (('agent', s.agent_id), ('server', s.server_id), ('key_sessions', s.key_id), ('all', 'all'),
                                    ('user', s.user_id), ('grant', s.consent_id),
                                    ('client', (select c.id from clients c where c.client_id = s.client_id)),
                                    ('provider', (select u.provider_id from users u where u.id = s.user_id)))
                            and ((r.issued_before is null and (s.history, s.number) < (r.history, r.number))
                              or s.issued_at <= r.issued_before + interval '5 seconds'))
            then 'revoked' when s.expires_at <= authority_now() then 'expired' else 'active' end as status,
       s.user_id, s.client_id
  from sessions s;

-- A family begins with an authorization and ends as a whole. Its id is that of a session: what hangs on it dies with the
-- entry of the revocation list that names it.
create table refresh_families (
    id          text        primary key check (id ~ '^ses_[0-9a-f]{32}$'),
    flow_id     text,
    consent_id  text        not null,
    user_id     text        not null,
    client_id   text        not null,
    server_id   text        not null,
    permissions text[]      not null,
    -- RFC 9449 §5: the key that its tokens are bound to.
    jkt         text,
    -- What the node had published before it authorised: a cut-off that came later ends the family.
    history     bigint      not null,
    number      bigint      not null,
    created_at  timestamptz not null default authority_now(),
    expires_at  timestamptz not null,
    -- Why it is over before its time.
    ended_by    text
);
create index refresh_families_expires on refresh_families (expires_at);
create index refresh_families_consent on refresh_families (consent_id);

create table refresh_tokens (
    -- The public part of the token.
    id           text        primary key check (id ~ '^[0-9A-Za-z]{12}$'),
    family_id    text        not null references refresh_families on delete cascade,
    secret_key   text        not null,
    digest       bytea       not null check (length(digest) = 32),
    created_at   timestamptz not null default authority_now(),
    -- Set together, once: the token that came after it, and the session token of the same answer.
    used_at      timestamptz,
    successor    text,
    session_id   text,
    session      jsonb,
    -- Somebody has shown that session token since. Written behind.
    session_used boolean     not null default false,
    check ((used_at is null) = (successor is null) and (used_at is null) = (session is null))
);
create index refresh_tokens_family on refresh_tokens (family_id);
create index refresh_tokens_session on refresh_tokens (session_id) where session_id is not null;
create index refresh_tokens_secret_key on refresh_tokens (secret_key);

-- How long a refresh token lives on since the provider last vouched for its person, while it cannot be asked.
alter table settings add column provider_grace_seconds integer not null default 3600;

-- Owned by src/secrets.
-- The versions of each random secret we gave out, as keyed digests: of agents' keys, operators' keys, servers' secrets.

create table secrets (
    -- key_…, opr_… or srv_…
    owner      text        not null check (owner ~ '^(key|opr|srv)_[0-9A-Za-z]{12}$'),
    version    integer     not null check (version > 0),
    -- Which of MCPA_SECRET_KEYS the digest was made under.
    secret_key text        not null,
    digest     bytea       not null check (length(digest) = 32),
    -- The last characters of the secret, to tell two versions apart on a screen.
    hint       text        not null,
    created_at timestamptz not null default authority_now(),
    expires_at timestamptz,
    primary key (owner, version)
);
create index secrets_secret_key on secrets (secret_key);
create constraint trigger feed_secrets after insert or update or delete on secrets
    deferrable initially deferred for each row execute function feed_note('secret', 'owner');

-- When each version was used last. Written behind and never part of the feed.
create table secret_uses (
    owner        text        not null,
    version      integer     not null,
    last_used_at timestamptz not null,
    client_ip    inet,
    server_id    text,
    primary key (owner, version)
);

-- Owned by src/keys, src/secrets and src/settings.
-- The life of a key: policies for each environment, a rotation that can be taken back, links that hand a secret over.
set local lock_timeout = '5s';

-- A policy is a day's matter: days before its end on which a key's owner is reminded, the overlap of a rotation unless said, and why
-- the maximum is above 90 days. `policy_reason` is left to nodes of the release before, which read it by that name.
alter table settings
    add column prod_remind_days integer[] not null default '{14,7,1}',
    add column dev_remind_days integer[] not null default '{14,7,1}',
    add column prod_overlap_seconds bigint not null default 86400 check (prod_overlap_seconds > 0),
    add column dev_overlap_seconds bigint not null default 86400 check (dev_overlap_seconds > 0),
    add column prod_reason text,
    add column dev_reason text;
update settings set prod_reason = case when prod_max_age_days > 90 then policy_reason end,
                    dev_reason = case when dev_max_age_days > 90 then policy_reason end;
-- The row's entry of the feed is drawn now, so that the table may be altered again.
set constraints all immediate;
alter table settings
    drop constraint settings_check,
    add check (prod_max_age_days <= 90 or prod_reason is not null),
    add check (dev_max_age_days <= 90 or dev_reason is not null);

alter table secrets
    -- When the version would have ended had it not been superseded: its end again if the rotation is taken back.
    add column own_end timestamptz,
    -- What the version after this one is called, if another was there in between and was taken back: a number is given once, because
    -- session tokens name it.
    add column next_version integer;

-- Links that hand a new secret to a person.
create table key_claims (
    id           text        primary key check (id ~ '^clm_[0-9a-f]{32}$'),
    key_id       text        not null references keys,
    version      integer     not null,
    -- SHA-256 of the 256 random bits in the link.
    token_digest bytea       not null unique check (length(token_digest) = 32),
    -- The secret, sealed under the secret key named, until it is shown or the time is over.
    secret_key   text,
    secret       bytea,
    created_by   text        not null,
    created_at   timestamptz not null default authority_now(),
    expires_at   timestamptz not null,
    opened_at    timestamptz,
    opened_ip    inet,
    check ((secret is null) = (secret_key is null)),
    check (opened_at is null or secret is null)
);
create index key_claims_key on key_claims (key_id, created_at desc, id desc);
create index key_claims_expires on key_claims (expires_at);

-- Owned by src/webhooks.
-- Who is told what happened: receivers, what they check our word with, and what is on its way to them.

create table webhooks (
    id            text        primary key check (id ~ '^whk_[0-9a-f]{32}$'),
    name          text        not null,
    url           text        not null,
    -- Types of events, or a star for all.
    events        text[]      not null,
    -- Null: what happens in every project, and in none.
    project       text        references projects,
    signature     text        not null check (signature in ('v1', 'v1a')),
    disabled      boolean     not null default false,
    -- Why the service switched it off by itself: `gone` or `failing`.
    disabled_for  text,
    -- Since when no delivery came through; null: the last one did, or none was tried.
    failing_since timestamptz,
    created_at    timestamptz not null default authority_now()
);
create index webhooks_created on webhooks (created_at desc, id desc);

-- What deliveries are signed with: the newest, and during an overlap the one before it.
create table webhook_keys (
    -- The webhook's id, a dot, and the version: what the sealed half is bound to.
    id          text        primary key,
    webhook_id  text        not null references webhooks on delete cascade,
    version     integer     not null check (version > 0),
    -- Sealed under the secret key named; bound to this table, row and column.
    secret_key  text        not null,
    sealed      bytea       not null,
    -- What the receiver checks with, where that is no secret.
    public_key  text,
    -- Null while it is the newest.
    signs_until timestamptz,
    unique (webhook_id, version)
);

-- The outbox. A row is written in the transaction of what happened, one for each who is told.
create table deliveries (
    id              text        primary key check (id ~ '^dlv_[0-9a-f]{32}$'),
    event_id        text        not null,
    type            text        not null,
    -- To whom: a webhook, or `mail`. It references nothing: a reference would lock the webhook's row with every change.
    webhook_id      text        not null,
    mail_to         text        check ((mail_to is not null) = (webhook_id = 'mail')),
    -- What is sent, byte by byte.
    body            text        not null,
    status          text        not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    -- Begun so far. While one runs, the next is due after it has certainly ended.
    attempts        integer     not null default 0,
    created_at      timestamptz not null default authority_now(),
    next_attempt_at timestamptz default authority_now() check ((next_attempt_at is not null) = (status = 'pending')),
    last_attempt_at timestamptz,
    -- The status of the last reply; null: there was none.
    last_status     integer,
    -- One word for why the last attempt failed.
    last_error      text,
    ended_at        timestamptz check ((ended_at is null) = (status = 'pending'))
);
create index deliveries_due on deliveries (webhook_id, next_attempt_at) where status = 'pending';
create index deliveries_of_webhook on deliveries (webhook_id, created_at desc, id desc);
create index deliveries_of_status on deliveries (webhook_id, status, created_at desc, id desc);
create index deliveries_ended on deliveries (ended_at) where ended_at is not null;

-- When a node that can send mail was last there. Without one, no mail is written for nobody to send.
create table mailers (
    one     boolean     primary key default true check (one),
    seen_at timestamptz not null
);

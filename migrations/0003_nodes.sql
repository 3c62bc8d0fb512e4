-- Owned by src/nodes.
-- The running nodes. A row is made at start under a random id, renewed by each round, removed as the last act.

create table nodes (
    id           uuid        primary key,
    -- Raised by each round; the row belongs to whoever wrote the value last.
    beat         bigint      not null default 0,
    -- What the node has applied and answers from.
    history      bigint      not null,
    applied      bigint      not null,
    version      text        not null,
    address      text        not null,
    -- Ids of the secret keys it can open, and kinds of feed entries it understands.
    secret_keys  text[]      not null,
    feed_kinds   text[]      not null,
    started_at   timestamptz not null default authority_now(),
    beat_at      timestamptz not null default authority_now()
) with (fillfactor = 20);

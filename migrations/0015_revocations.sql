-- Owned by src/revocations.
-- The revocation list, which every check reads.
create table revocations (
    id            text        primary key check (id ~ '^rev_[0-9a-f]{32}$'),
    -- key_sessions, role_sessions: cut-offs that disabling and narrowing leave behind; operator: an operator's key.
    kind          text        not null check (kind in ('token', 'key', 'agent', 'server', 'project', 'signing_key', 'all',
                                                       'client', 'user', 'grant', 'provider', 'operator', 'key_sessions')),
    target        text        not null,
    reason        text,
    -- Kills what was issued up to then (and five seconds) instead of what was issued so far.
    issued_before timestamptz,
    actor         text        not null,
    project       text,
    at            timestamptz not null default authority_now(),
    -- Where it stands in the feed; a token that names a smaller number is dead. Set inside COMMIT.
    history       bigint,
    number        bigint,
    -- May be removed after this; null: never.
    prune_at      timestamptz
);
-- A token or a key is revoked once; asking again finds the first.
create unique index revocations_once on revocations (kind, target) where kind in ('token', 'key', 'operator', 'signing_key');
create index revocations_target on revocations (kind, target);
create index revocations_at on revocations (at desc, id desc);
create index revocations_prune on revocations (prune_at) where prune_at is not null;

create function revocation_note() returns trigger
    language plpgsql as $$
declare
    place record;
begin
    select * into place from feed_draw('revocation', new.id);
    update revocations set history = place.drawn_history, number = place.drawn_number where id = new.id;
    return null;
end $$;
create constraint trigger feed_revocations after insert on revocations
    deferrable initially deferred for each row execute function revocation_note();

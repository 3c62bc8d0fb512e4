-- Owned by src/audit.
-- The record of what happened, in chains of hashes: one for changes, one per start of a node for everything else.

create table audit_chains (
    chain    text   primary key check (chain ~ '^(changes|node:[0-9a-f]{32})$'),
    position bigint not null default 0,
    -- How far the signed checkpoints cover it.
    covered  bigint not null default 0,
    hash     bytea  not null default decode(repeat('00', 32), 'hex') check (length(hash) = 32)
) with (fillfactor = 50);
insert into audit_chains (chain) values ('changes');

create table audit_entries (
    chain     text        not null references audit_chains,
    -- Set when the transaction commits.
    position  bigint,
    at        timestamptz not null default authority_now(),
    -- All there is to know; the columns below are read out of it, so nobody can change one without the other.
    body      json        not null,
    hash      bytea,
    id        text generated always as (body ->> 'id') stored primary key,
    actor     text generated always as (body ->> 'actor') stored,
    action    text generated always as (body ->> 'action') stored,
    target    text generated always as (body ->> 'target') stored,
    result    text generated always as (body ->> 'result') stored,
    project   text generated always as (body ->> 'project') stored,
    agent_id  text generated always as (body ->> 'agent_id') stored,
    key_id    text generated always as (body ->> 'key_id') stored,
    server_id text generated always as (body ->> 'server_id') stored
);
create unique index audit_entries_chain on audit_entries (chain, position);
create index audit_entries_at on audit_entries (at desc, id desc);
create index audit_entries_target on audit_entries (target, at desc);
create index audit_entries_actor on audit_entries (actor, at desc);
create index audit_entries_key on audit_entries (key_id, at desc) where key_id is not null;
create index audit_entries_agent on audit_entries (agent_id, at desc) where agent_id is not null;
create index audit_entries_server on audit_entries (server_id, at desc) where server_id is not null;

-- What an entry's hash covers: the hash before it, its chain and place, its time in microseconds, its stored bytes.
-- src/audit/chain.rs computes the same when it verifies.
create function audit_hash(previous bytea, chain text, place bigint, at timestamptz, body json) returns bytea
    language sql stable as $$
    select sha256(previous || convert_to(
        concat_ws('|', chain, place, (extract(epoch from at) * 1000000)::bigint, body::text), 'UTF8'))
$$;

-- Links an entry into its chain inside COMMIT. Changes take the feed's lock first: theirs is the order of commits, and
-- the one order in which locks are taken.
create function audit_link() returns trigger
    language plpgsql as $$
declare
    head audit_chains;
begin
    if new.chain = 'changes' then
        perform 1 from feed_head for no key update;
    end if;
    update audit_chains c
       set position = c.position + 1,
           hash = audit_hash(c.hash, c.chain, c.position + 1, new.at, new.body)
     where c.chain = new.chain
 returning c.* into strict head;
    update audit_entries set position = head.position, hash = head.hash where id = new.id;
    return null;
end $$;
create constraint trigger audit_link after insert on audit_entries
    deferrable initially deferred for each row execute function audit_link();

-- Signed statements of where the chains stood. Each names the one before it.
create table audit_checkpoints (
    number bigint      primary key,
    at     timestamptz not null default authority_now(),
    kid    text        not null,
    -- A JWS in compact form; its payload lists the heads of the chains that moved, and the hash of the one before.
    jws    text        not null
);

-- Owned by src/db/partitions.rs.
-- The audit by the time of its entries. What there is becomes the first partition under its own name, because nodes of
-- the release before write to it, and name its primary key when they do: a partitioned table cannot have that one.
set local lock_timeout = '5s';
lock table audit_entries in access exclusive mode;

create table audit_log (
    chain     text        not null,
    -- Set when the transaction commits.
    position  bigint,
    at        timestamptz not null default authority_now(),
    -- All there is to know; the columns below are read out of it, so nobody can change one without the other.
    body      json        not null,
    hash      bytea,
    id        text generated always as (body ->> 'id') stored,
    actor     text generated always as (body ->> 'actor') stored,
    action    text generated always as (body ->> 'action') stored,
    target    text generated always as (body ->> 'target') stored,
    result    text generated always as (body ->> 'result') stored,
    project   text generated always as (body ->> 'project') stored,
    agent_id  text generated always as (body ->> 'agent_id') stored,
    key_id    text generated always as (body ->> 'key_id') stored,
    server_id text generated always as (body ->> 'server_id') stored
) partition by range (at);

-- Every other partition is made like this one.
create table audit_log_rest partition of audit_log default;
create unique index audit_log_rest_id on audit_log_rest (id);
create unique index audit_log_rest_chain on audit_log_rest (chain, position);
create index audit_log_rest_at on audit_log_rest (at desc, id desc);
create index audit_log_rest_target on audit_log_rest (target, at desc, id desc);
create index audit_log_rest_actor on audit_log_rest (actor, at desc, id desc);
create index audit_log_rest_action on audit_log_rest (action, at desc, id desc);
create index audit_log_rest_project on audit_log_rest (project, at desc, id desc) where project is not null;
create index audit_log_rest_key on audit_log_rest (key_id, at desc, id desc) where key_id is not null;
create index audit_log_rest_agent on audit_log_rest (agent_id, at desc, id desc) where agent_id is not null;
create index audit_log_rest_server on audit_log_rest (server_id, at desc, id desc) where server_id is not null;

-- The entry's own partition is named by its time.
create or replace function audit_link() returns trigger
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
    update audit_log set position = head.position, hash = head.hash where at = new.at and id = new.id;
    return null;
end $$;
create constraint trigger audit_link after insert on audit_log
    deferrable initially deferred for each row execute function audit_link();

-- The link itself fails without a chain; a foreign key would be looked up for each entry, and be in the way of dropping.
alter table audit_entries drop constraint audit_entries_chain_fkey;
drop trigger audit_link on audit_entries;

do $$
begin
    execute format('alter table audit_log attach partition audit_entries for values from (minvalue) to (%L)',
        (select substring(pg_get_constraintdef(oid) from '''([^'']+)''') from pg_constraint where conname = 'audit_entries_bound'));
    -- These would take a while on a large one, with everybody waiting; it is read without them until it expires.
    if not exists (select from audit_entries offset 100000) then
        create index audit_entries_action on audit_entries (action, at desc, id desc);
        create index audit_entries_project on audit_entries (project, at desc, id desc) where project is not null;
    end if;
end $$;

-- Makes the partitions that the audit needs for a while: a twelfth of the time that entries are kept each, at least a day.
-- Returns how many it made.
create function partitions_ahead_audit_log() returns integer
    language plpgsql as $$
declare
    width   interval := (select make_interval(hours => 24 * greatest(1, least(366, audit_days / 12))) from settings);
    -- All begin at midnight in UTC, whatever the session's time zone is.
    from_at timestamptz := greatest(date_trunc('day', authority_now(), 'UTC'),
                                    (select max(high_at) from partitions where parent = 'audit_log'));
    made    integer := 0;
begin
    while from_at < authority_now() + greatest(width, interval '168 hours') loop
        made := made + partition_make('audit_log', 'audit_log_' || to_char(from_at at time zone 'UTC', 'YYYYMMDD'),
            from_at::text, (from_at + width)::text)::integer;
        from_at := from_at + width;
    end loop;
    return made;
end $$;
select partitions_ahead_audit_log();

-- A checkpoint that says what was removed is found without reading all.
alter table audit_checkpoints add column removes boolean not null default false;
create index audit_checkpoints_removes on audit_checkpoints (number) where removes;

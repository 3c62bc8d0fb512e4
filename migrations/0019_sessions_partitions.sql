-- Owned by src/db/partitions.rs.
-- How partitions are made, and sessions by the time in their ids. Waiting longer than this would stop everybody behind.
set local lock_timeout = '5s';

-- The partitions of the tables that are partitioned. `low` is null where a partition begins with everything; both are null
-- for the one that catches what no other holds, `<table>_rest`. Numbers and times are read only where there are some.
create view partitions as
select parent, name, low, high,
       case parent when 'feed' then high::bigint end as high_number,
       case parent when 'audit_log' then low::timestamptz end as low_at,
       case parent when 'audit_log' then high::timestamptz end as high_at
  from (select p.relname::text as parent, c.relname::text as name,
               nullif(substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''?([^'')]+)''?\)'), 'MINVALUE') as low,
               substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''?([^'')]+)''?\)') as high
          from pg_partitioned_table t
          join pg_class p on p.oid = t.partrelid and p.relnamespace = current_schema()::regnamespace
          join pg_inherits i on i.inhparent = p.oid
          join pg_class c on c.oid = i.inhrelid) as bounds;

-- Makes a partition, and moves into it what was caught by the rest. With more than ten thousand such rows it does nothing:
-- they stay where they are until they expire, and the next partition is made in time.
create function partition_make(parent text, name text, low text, high text) returns boolean
    language plpgsql as $$
declare
    rest    text := parent || '_rest';
    key     text;
    columns text;
    caught  integer;
begin
    -- Writers wait for this moment: one that was on its way to the rest would find that it belongs elsewhere.
    execute format('lock table %I in share row exclusive mode', parent);
    if to_regclass(quote_ident(name)) is not null then
        return false;
    end if;
    select attname into strict key from pg_partitioned_table t
      join pg_attribute on attrelid = t.partrelid and attnum = t.partattrs[0] where t.partrelid = parent::regclass;
    execute format('select count(*) from (select from %I where %I >= %L and %I < %L limit 10001) as few',
        rest, key, low, key, high) into caught;
    if caught > 10000 then
        raise warning 'partition % is not made: % holds more than 10000 rows of its time', name, rest;
        return false;
    end if;
    execute format('create table %I (like %I including all)', name, rest);
    if caught > 0 then
        select string_agg(quote_ident(attname), ', ' order by attnum) into columns from pg_attribute
         where attrelid = rest::regclass and attnum > 0 and not attisdropped and attgenerated = '';
        execute format('with moved as (delete from %I where %I >= %L and %I < %L returning *) insert into %I (%s) select %s from moved',
            rest, key, low, key, high, name, columns, columns);
    end if;
    execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, name, low, high);
    return true;
end $$;

-- Makes the partitions that sessions need for twelve hours, six hours each. Returns how many it made.
create function partitions_ahead_sessions() returns integer
    language plpgsql as $$
declare
    width constant interval := '6 hours';
    from_at timestamptz := date_bin(width, authority_now(), 'epoch');
    made    integer := 0;
begin
    while from_at < authority_now() + interval '12 hours' loop
        -- Nothing of this time is held by another one.
        if not exists (select from partitions where parent = 'sessions' and high > id_at('ses', from_at)
                          and (low is null or low < id_at('ses', from_at + width))) then
            made := made + partition_make('sessions', 'sessions_' || to_char(from_at at time zone 'UTC', 'YYYYMMDD_HH24'),
                id_at('ses', from_at), id_at('ses', from_at + width))::integer;
        end if;
        from_at := from_at + width;
    end loop;
    return made;
end $$;

-- Drops a partition, unless it holds a row whose time is not over.
create function partition_drop(partition text, time_column text, until timestamptz) returns boolean
    language plpgsql as $$
declare
    needed boolean := false;
begin
    if not exists (select from partitions where name = partition and high is not null) then
        return false;
    end if;
    if time_column is not null then
        execute format('select exists (select from %I where %I >= $1)', partition, time_column) into needed using until;
    end if;
    if needed then
        return false;
    end if;
    execute format('drop table %I', partition);
    return true;
end $$;

lock table sessions in access exclusive mode;
alter table sessions rename to sessions_before;
alter table sessions_before rename constraint sessions_pkey to sessions_before_pkey;

create table sessions (
    -- Its first twelve digits are the millisecond in which it was made: the partitions go by it. Its form is not checked
    -- here: the pattern took as long as writing the row.
    id          text        primary key,
    key_id      text        not null,
    key_version integer     not null,
    agent_id    text        not null,
    server_id   text        not null,
    permissions text[]      not null,
    act         jsonb,
    ancestors   text[]      not null default '{}',
    client_ip   inet,
    history     bigint      not null,
    number      bigint      not null,
    kid         text        not null,
    issued_at   timestamptz not null,
    expires_at  timestamptz not null
) partition by range (id);
-- Every other partition is made like this one. An index costs as much as the row itself, so there are two: an agent's
-- sessions are those of its keys, and the newest stand at the end of the primary key.
create table sessions_rest partition of sessions default;
create index sessions_rest_key on sessions_rest (key_id, id);
create index sessions_rest_server on sessions_rest (server_id, id);
create index sessions_rest_expires on sessions_rest using brin (expires_at) with (autosummarize = on);

do $$
begin
    if exists (select from sessions_before) then
        execute format('alter table sessions attach partition sessions_before for values from (minvalue) to (%L)',
            (select substring(pg_get_constraintdef(oid) from 'ses_[0-9a-f]{32}') from pg_constraint where conname = 'sessions_bound'));
    else
        drop table sessions_before;
    end if;
    perform partitions_ahead_sessions();
end $$;

-- Sessions as lists show them.
create view session_list as
select s.id, s.agent_id, s.key_id, s.server_id, s.permissions, s.act, host(s.client_ip) as client_ip, s.issued_at, s.expires_at,
       case when exists (select from revocations r
                          where (r.kind, r.target) in (('token', s.id), ('key', s.key_id), ('signing_key', s.kid)))
              or exists (select from revocations r
                          where (r.kind, r.target) in (('agent', s.agent_id), ('server', s.server_id), ('key_sessions', s.key_id), ('all', 'all'))
                            and ((r.issued_before is null and (s.history, s.number) < (r.history, r.number))
                              or s.issued_at <= r.issued_before + interval '5 seconds'))
            then 'revoked' when s.expires_at <= authority_now() then 'expired' else 'active' end as status
  from sessions s;

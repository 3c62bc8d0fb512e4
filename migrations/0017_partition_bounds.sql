-- Owned by src/db/partitions.rs.
-- Sessions and the audit become partitions of themselves (0019, 0020): each holds what there is up to a bound. The bound
-- is promised here and checked in 0018, which reads the tables while they are written, so that later nobody waits for it.
set local lock_timeout = '5s';

-- The smallest id with a prefix that a UUIDv7 made at that time can have.
create function id_at(prefix text, at timestamptz) returns text
    language sql immutable parallel safe
    as $$ select prefix || '_' || lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20) $$;

do $$
begin
    -- Tokens issued by nodes of the release before go on arriving until the tables are changed.
    execute format('alter table sessions add constraint sessions_bound check (id < %L) not valid',
        id_at('ses', date_bin('6 hours', authority_now(), 'epoch') + interval '18 hours'));
    -- Nodes of the release before write to this table itself: they have until then to be replaced.
    execute format('alter table audit_entries add constraint audit_entries_bound check (at < %L) not valid',
        date_trunc('day', authority_now(), 'UTC') + interval '360 hours');
end $$;

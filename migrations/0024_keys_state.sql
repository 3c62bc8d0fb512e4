-- Owned by src/keys.
-- What lists narrow keys by stands in the key's own row: found by an index, whatever the number of keys.
set local lock_timeout = '5s';

-- Nodes of the release before read `expires_at` of a key's secrets by that name, so it is not one of these.
-- Both follow from the key's secrets, by a trigger: when the newest ends, and until when one before it works too.
alter table keys add column ends_at timestamptz, add column overlap_until timestamptz;

-- Nodes keep neither in memory, and hear of the secrets themselves.
drop trigger feed_keys on keys;
create constraint trigger feed_keys after insert or delete or update of id, agent_id, name, environment, allowed_cidrs, direct,
        self_rotation, expires_in_days, disabled, created_at, revoked_at on keys
    deferrable initially deferred for each row execute function feed_note('key', 'id');

create function key_ends() returns trigger
    language plpgsql as $$
declare
    changed text := case when tg_op = 'DELETE' then old.owner else new.owner end;
begin
    update keys k set ends_at = newest.expires_at,
           overlap_until = (select max(s.expires_at) from secrets s where s.owner = changed and s.version < newest.version)
      from (select version, expires_at from secrets where owner = changed order by version desc limit 1) as newest
     where k.id = changed;
    return null;
end $$;
create trigger key_ends after insert or delete or update of expires_at on secrets
    for each row execute function key_ends();

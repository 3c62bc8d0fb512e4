-- Owned by src/revocations.
-- A revoked key is one entry of the feed, that of the revocation list, and a round of a node reads no more than that.
set local lock_timeout = '5s';

-- `revoked_at` serves lists. Where it is set long after the entry, the statement names `disabled` too, and nodes hear of it.
drop trigger feed_keys on keys;
create constraint trigger feed_keys after insert or delete or update of id, agent_id, name, environment, allowed_cidrs, direct,
        self_rotation, expires_in_days, disabled, created_at on keys
    deferrable initially deferred for each row execute function feed_note('key', 'id');

-- A revocation waits for no lock on what it revokes: neither for a row nor for the table, which an index may be made of.
create function mark_revoked(targets text[]) returns void
    language plpgsql set lock_timeout = '10ms' as $$
begin
    update keys set revoked_at = authority_now()
     where id in (select id from keys where id = any(targets) and revoked_at is null for no key update skip locked);
exception when lock_not_available then
    null;
end $$;

-- The longest lease that any node may be under: the one before counts for two minutes, twice as long as any lease.
create function longest_lease_ms(of settings) returns integer
    language sql stable as $$
    select greatest(of.lease_ms, case when of.updated_at > authority_now() - interval '2 minutes' then of.previous_lease_ms end)
$$;

-- Owned by src/keys.
-- The state of keys that were there before 0024. By itself, because it locks rows only: nobody else waits for a table.
update keys k set ends_at = newest.expires_at,
       overlap_until = (select max(s.expires_at) from secrets s where s.owner = k.id and s.version < newest.version)
  from (select distinct on (owner) owner, version, expires_at from secrets where owner like 'key\_%' order by owner, version desc) as newest
 where newest.owner = k.id and k.ends_at is null;

-- Owned by src/keys.
-- The state of keys that were there before 0024. By itself, because it locks rows only: nobody else waits for a table; and
-- before the indexes of it, so that it need not keep them.
-- So that the planner knows that the column is empty.
analyze keys (ends_at);
-- Enough to keep a million keys' secrets in memory: then rows are written in the order in which they lie.
set local work_mem = '256MB';
update keys k set ends_at = newest.expires_at, overlap_until = newest.older_until
  from (select distinct on (owner) owner, expires_at,
               max(expires_at) over (partition by owner order by version rows between unbounded preceding and 1 preceding) as older_until
          from secrets where owner like 'key\_%' order by owner, version desc) as newest
 -- A key whose secrets changed since 0024 knows better than this statement, which began before.
 where newest.owner = k.id and k.ends_at is null;

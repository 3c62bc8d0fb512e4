-- Owned by src/db.
-- How names begin, in any case.
set local lock_timeout = '5s';

create index agents_name on agents ((lower(name) collate "C"));
create index servers_name on servers ((lower(name) collate "C"));

-- Owned by src/keys.
-- What lists narrow keys by. Issuing, changing and rotating keys waits while these are made, some seconds for a million.
set local lock_timeout = '5s';

create index keys_environment on keys (environment);
create index keys_disabled on keys (created_at desc, id desc) where disabled;
create index keys_revoked on keys (created_at desc, id desc) where revoked_at is not null;
create index keys_ends on keys (ends_at);
create index keys_overlap on keys (overlap_until) where overlap_until is not null;
-- How names begin, in any case.
create index keys_name on keys ((lower(name) collate "C"));

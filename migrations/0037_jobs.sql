-- Owned by src/jobs.
-- What runs by itself: when each job ran, who runs it now, and where it goes on. And, owned by src/keys, when each version of
-- a key's secret is to be looked at next.
set local lock_timeout = '5s';

create table jobs (
    name            text        primary key check (name ~ '^[a-z_]{1,40}$'),
    -- A job that never succeeded is measured against this.
    created_at      timestamptz not null default authority_now(),
    next_run_at     timestamptz not null default authority_now(),
    -- Raised by each claim: who holds an older number has lost the job, whatever its clock says.
    run             bigint      not null default 0,
    -- The node that runs it now, until its lease ends or it says that it is done.
    holder          uuid,
    lease_until     timestamptz,
    started_at      timestamptz,
    last_success_at timestamptz,
    -- Why the last run failed; none when it succeeded.
    last_error      text        check (length(last_error) <= 500),
    -- What somebody must look at, though the job itself succeeds.
    warning         text        check (length(warning) <= 500),
    -- Where the next run goes on; each job knows its own.
    place           jsonb,
    -- Since when its lateness is told.
    late_since      timestamptz
) with (fillfactor = 20);

-- One row for each version of a key's secret that is there.
create table key_notices (
    key_id       text        not null,
    version      integer     not null,
    -- When there may be something to tell of it.
    next_at      timestamptz not null default authority_now(),
    -- How many seconds before its end the last notice stood: 0 for the end itself. A later notice stands nearer to the end.
    told_seconds bigint      check (told_seconds >= 0),
    primary key (key_id, version),
    foreign key (key_id, version) references secrets (owner, version) on delete cascade
) with (fillfactor = 70);
create index key_notices_next on key_notices (next_at);

-- What is issued, rotated or given another end is looked at anew. A new version also changes what the one before it is. A
-- batch of the job is never waited for longer than it takes to commit.
create function key_notices_look() returns trigger
    language plpgsql as $$
begin
    insert into key_notices (key_id, version) values (new.owner, new.version)
    on conflict (key_id, version) do update set next_at = authority_now() where key_notices.next_at > authority_now();
    if tg_op = 'INSERT' and new.version > 1 then
        update key_notices set next_at = authority_now()
         where key_id = new.owner and version < new.version and next_at > authority_now();
    end if;
    return null;
end $$;
create trigger key_notices_look after insert or update of expires_at on secrets
    for each row when (new.owner like 'key\_%') execute function key_notices_look();

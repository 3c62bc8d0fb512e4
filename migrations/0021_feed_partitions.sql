-- Owned by src/db/partitions.rs.
-- The feed by its numbers, which are in the order of time: so the primary key stays, and the newest entry is known.
set local lock_timeout = '5s';
lock table feed in access exclusive mode;
alter table feed rename to feed_before;
alter table feed_before rename constraint feed_pkey to feed_before_pkey;

create table feed (
    number  bigint      primary key,
    history bigint      not null,
    -- A node that finds another mark at a number it has applied knows that the history changed.
    mark    uuid        not null default gen_random_uuid(),
    kind    text        not null,
    target  text        not null,
    at      timestamptz not null default authority_now()
) partition by range (number);
create table feed_rest partition of feed default;

do $$
begin
    execute format('alter table feed attach partition feed_before for values from (minvalue) to (%s)',
        ((select number from feed_head) / 250000 + 1) * 250000);
end $$;

-- Makes the partitions for the next numbers. Returns how many it made.
create function partitions_ahead_feed() returns integer
    language plpgsql as $$
declare
    width constant bigint := 250000;
    head  bigint := (select number from feed_head);
    first bigint := greatest(head / width * width, (select max(high_number) from partitions where parent = 'feed'));
    made  integer := 0;
begin
    while first < head + 3 * width loop
        made := made + partition_make('feed', 'feed_' || first, first::text, (first + width)::text)::integer;
        first := first + width;
    end loop;
    return made;
end $$;
select partitions_ahead_feed();

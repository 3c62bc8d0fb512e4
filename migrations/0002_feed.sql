-- Owned by src/feed.
-- The change feed: what nodes read to keep their memory current, in the order of commits.

create table feed_head (
    one     boolean primary key default true check (one),
    -- Counts the histories this installation has had; a promoted or restored database opens a new one.
    history bigint  not null default 1,
    number  bigint  not null default 0
) with (fillfactor = 20);
insert into feed_head default values;

create table feed (
    number  bigint      primary key,
    history bigint      not null,
    -- A node that finds another mark at a number it has applied knows that the history changed.
    mark    uuid        not null default gen_random_uuid(),
    kind    text        not null,
    target  text        not null,
    at      timestamptz not null default authority_now()
);
insert into feed (number, history, kind, target) values (0, 1, 'start', '');

-- Draws the next number. It locks the head until the transaction ends, and runs from deferred triggers only, that is
-- inside COMMIT: numbers are gapless and their order is the order of commits.
create function feed_draw(kind text, target text, out drawn_history bigint, out drawn_number bigint)
    language plpgsql as $$
begin
    update feed_head set number = number + 1 returning history, number into drawn_history, drawn_number;
    insert into feed (number, history, kind, target) values (drawn_number, drawn_history, kind, target);
end $$;

-- Trigger arguments: the kind of the entry, and the column that holds its target.
create function feed_note() returns trigger
    language plpgsql as $$
declare
    changed jsonb;
begin
    changed := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
    perform feed_draw(tg_argv[0], changed ->> tg_argv[1]);
    return null;
end $$;

create constraint trigger feed_settings after insert or update on settings
    deferrable initially deferred for each row execute function feed_note('settings', 'installation');

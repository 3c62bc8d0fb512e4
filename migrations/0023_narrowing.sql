-- Owned by src/feed.
-- Which entries of the feed take something away, and from which servers: what servers that hold connections are told.

-- Null: from nobody; what is made, renamed or widened. Empty: from whoever it concerns, as the tables still say. Else:
-- from these servers, which the tables no longer name.
alter table feed add column narrows text[];

create function feed_narrows(changed_table text, before jsonb, after jsonb) returns text[]
    language plpgsql as $$
begin
    case changed_table
        when 'grants' then
            if after is null or not ((before -> 'permissions') <@ (after -> 'permissions')) then
                return array[before ->> 'server_id'];
            end if;
        when 'key_roles' then
            return nullif(array(select server_id from grants where holder = before ->> 'role_id'), '{}');
        when 'keys' then
            if (before -> 'disabled', before -> 'direct', before -> 'allowed_cidrs')
                is distinct from (after -> 'disabled', after -> 'direct', after -> 'allowed_cidrs') then
                return '{}';
            end if;
        when 'secrets' then
            -- A version that lived ends now, or sooner than it would have.
            if coalesce((before ->> 'expires_at')::timestamptz > authority_now(), true)
                and (after is null or (after ->> 'expires_at')::timestamptz < coalesce((before ->> 'expires_at')::timestamptz, 'infinity')) then
                return '{}';
            end if;
        when 'servers' then
            if before -> 'scopes' is distinct from after -> 'scopes' then
                return array[before ->> 'id'];
            end if;
        else
            -- What switches off an agent, a server or a project is an entry of the revocation list.
            return null;
    end case;
    return null;
end $$;

create or replace function feed_note() returns trigger
    language plpgsql as $$
declare
    changed jsonb;
    narrowed text[];
    place record;
begin
    changed := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
    if tg_op <> 'INSERT' then
        -- Read before the number is drawn, so that the feed is not locked meanwhile.
        narrowed := feed_narrows(tg_table_name, to_jsonb(old), case when tg_op = 'UPDATE' then changed end);
    end if;
    select * into place from feed_draw(tg_argv[0], changed ->> tg_argv[1]);
    if narrowed is not null then
        update feed set narrows = narrowed where number = place.drawn_number;
    end if;
    return null;
end $$;

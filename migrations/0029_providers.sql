-- Owned by src/providers.
-- Identity providers that people sign in with. They belong to no project: who can change a rule can give anybody anything.

create table providers (
    id            text        primary key check (id ~ '^idp_[0-9a-f]{32}$'),
    -- Stands in the address that the provider sends people back to, so it never changes.
    name          text        not null check (name ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    -- What people read on the button.
    title         text        not null,
    kind          text        not null check (kind in ('openid', 'oauth2', 'demo')),
    -- What its kind needs: the issuer or the endpoints, our client id there, scopes, names of claims.
    settings      jsonb       not null default '{}',
    -- Sealed under the secret key named; bound to this table, row and column.
    secret_key    text,
    client_secret bytea,
    disabled      boolean     not null default false,
    created_at    timestamptz not null default authority_now(),
    deleted_at    timestamptz,
    check ((secret_key is null) = (client_secret is null))
);
create unique index providers_name on providers (name) where deleted_at is null;
create index providers_created on providers (created_at desc, id desc) where deleted_at is null;
create index providers_secret_key on providers (secret_key) where secret_key is not null;

-- Who has a claim with this value has this role. Looked at in each sign-in and each renewal.
create table provider_rules (
    provider_id text    not null references providers,
    position    integer not null,
    claim       text    not null,
    -- Null: whatever the value, so that everybody who can sign in has the role.
    value       text,
    role_id     text    not null references roles,
    primary key (provider_id, position)
);
create index provider_rules_role on provider_rules (role_id);

-- With a third argument the kind is one that releases before do not know: while a node of such a release runs the change is
-- refused, since reading of it would end that node's lease for good.
create or replace function feed_note() returns trigger
    language plpgsql as $$
declare
    changed jsonb;
    narrowed text[];
    place record;
begin
    if tg_nargs > 2 and exists (select from nodes where not tg_argv[0] = any(feed_kinds)) then
        raise exception 'a node of an earlier release is still running' using errcode = 'object_not_in_prerequisite_state';
    end if;
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

create constraint trigger feed_providers after insert or delete or update of disabled, deleted_at on providers
    deferrable initially deferred for each row execute function feed_note('provider', 'id', 'new');

-- Logout tokens that were used, until they are too old anyway: each is good once, on whatever node.
create table provider_logouts (
    provider_id text        not null,
    -- SHA-256 of the `jti`.
    jti         bytea       not null check (length(jti) = 32),
    expires_at  timestamptz not null,
    primary key (provider_id, jti)
);
create index provider_logouts_expires on provider_logouts (expires_at);

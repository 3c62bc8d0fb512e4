-- Owned by src/users.
-- People who signed in, the browsers they are signed in with, and what they allowed which client.

create table users (
    id           text        primary key check (id ~ '^usr_[0-9a-f]{32}$'),
    -- These two decide who it is; an e-mail address never does.
    provider_id  text        not null references providers,
    subject      text        not null,
    username     text,
    email        text,
    disabled     boolean     not null default false,
    created_at   timestamptz not null default authority_now(),
    signed_in_at timestamptz not null default authority_now(),
    unique (provider_id, subject)
);
create index users_created on users (created_at desc, id desc);
create index users_username on users ((lower(username) collate "C"));
create constraint trigger feed_users after insert or delete or update of disabled, username on users
    deferrable initially deferred for each row execute function feed_note('user', 'id', 'new');

-- What the provider's claims gave at the last sign-in or renewal.
create table user_roles (
    user_id text not null references users,
    role_id text not null references roles,
    primary key (user_id, role_id)
);
create index user_roles_role on user_roles (role_id);
create constraint trigger feed_user_roles after insert or update or delete on user_roles
    deferrable initially deferred for each row execute function feed_note('user', 'user_id', 'new');

-- With what the provider can be asked again whether a person may still be here. Never part of the feed.
create table user_checks (
    user_id    text        primary key references users,
    -- The provider's tokens, sealed under the secret key named; null where it gave none.
    secret_key text,
    tokens     bytea,
    -- The last answer that was a good one.
    checked_at timestamptz not null default authority_now(),
    -- A node asks the provider just now: others do not, until then.
    asking_until timestamptz
);
create index user_checks_secret_key on user_checks (secret_key) where secret_key is not null;

-- Browsers in which somebody is signed in.
create table logins (
    -- SHA-256 of the cookie's value.
    digest      bytea       primary key check (length(digest) = 32),
    user_id     text        not null references users,
    -- The provider's name for its own session, for back-channel logout.
    sid         text,
    created_at  timestamptz not null default authority_now(),
    -- When the person last proved who it is.
    proved_at   timestamptz not null default authority_now(),
    expires_at  timestamptz not null
);
create index logins_user on logins (user_id);
create index logins_expires on logins (expires_at);

-- What a person allowed a client on a server: a grant, in people's words.
create table consents (
    id          text        primary key check (id ~ '^grt_[0-9a-f]{32}$'),
    user_id     text        not null references users,
    client_id   text        not null references clients,
    server_id   text        not null references servers,
    permissions text[]      not null check (cardinality(permissions) between 1 and 200),
    created_at  timestamptz not null default authority_now(),
    updated_at  timestamptz not null default authority_now(),
    unique (user_id, client_id, server_id)
);
create index consents_client on consents (client_id);
create index consents_server on consents (server_id);
create constraint trigger feed_consents after insert or delete or update of permissions on consents
    deferrable initially deferred for each row execute function feed_note('consent', 'id', 'new');

create or replace function feed_narrows(changed_table text, before jsonb, after jsonb) returns text[]
    language plpgsql as $$
begin
    case changed_table
        when 'grants', 'consents' then
            if after is null or not ((before -> 'permissions') <@ (after -> 'permissions')) then
                return array[before ->> 'server_id'];
            end if;
        when 'key_roles', 'user_roles' then
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
            -- What switches off an agent, a server, a project, a client, a person or a provider is an entry of the
            -- revocation list.
            return null;
    end case;
    return null;
end $$;

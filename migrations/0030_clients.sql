-- Owned by src/clients.
-- OAuth clients: applications that ask for tokens on behalf of people, or for themselves.

create table clients (
    id           text        primary key check (id ~ '^cli_[0-9a-f]{32}$'),
    -- By an operator, by dynamic registration, or by a metadata document at its own address.
    kind         text        not null check (kind in ('registered', 'dynamic', 'document')),
    -- What stands in requests and tokens: its id, or the address of its document.
    client_id    text        not null unique,
    name         text,
    project      text        not null default 'default' references projects,
    -- RFC 7591 §2, as it was checked; of a document: as it was when somebody last agreed to it.
    metadata     jsonb       not null,
    disabled     boolean     not null default false,
    created_at   timestamptz not null default authority_now(),
    -- Written behind.
    last_used_at timestamptz,
    deleted_at   timestamptz,
    check ((kind = 'document') = (client_id like 'https://%'))
);
create index clients_created on clients (created_at desc, id desc) where deleted_at is null;
create index clients_project on clients (project, created_at desc, id desc) where deleted_at is null;
create index clients_unused on clients (created_at) where kind = 'dynamic' and last_used_at is null and deleted_at is null;
create index clients_names on clients (lower(name) collate "C");
create index clients_kind on clients (kind) where deleted_at is null;
create constraint trigger feed_clients after insert or delete or update of disabled, deleted_at, client_id, project on clients
    deferrable initially deferred for each row execute function feed_note('client', 'id', 'new');

-- Assertions that were used, until they expire: each is good once, on whatever node (RFC 7523 §3).
create table client_assertions (
    client_id  text        not null,
    -- SHA-256 of the `jti`.
    jti        bytea       not null check (length(jti) = 32),
    expires_at timestamptz not null,
    primary key (client_id, jti)
);
create index client_assertions_expires on client_assertions (expires_at);

-- Clients have secrets and, for client credentials, grants as others do.
alter table secrets drop constraint secrets_owner_check;
alter table secrets add constraint secrets_owner_check
    check (owner ~ '^((key|opr|srv)_[0-9A-Za-z]{12}|cli_[0-9a-f]{32})$') not valid;
alter table grants drop constraint grants_holder_check;
alter table grants add constraint grants_holder_check
    check (holder ~ '^(key_[0-9A-Za-z]{12}|(rol|cli)_[0-9a-f]{32})$') not valid;

-- Who may register by itself, and whether an assertion may be made for the token endpoint's address.
alter table settings
    add column dynamic_registration text not null default 'loopback' check (dynamic_registration in ('off', 'loopback', 'on')),
    add column assertion_audience_token_endpoint boolean not null default false;

-- Owned by src/roles.
create table roles (
    id         text        primary key check (id ~ '^rol_[0-9a-f]{32}$'),
    name       text        not null,
    project    text        not null references projects,
    created_at timestamptz not null default authority_now(),
    unique (project, name)
);
create index roles_created on roles (created_at desc, id desc);
create constraint trigger feed_roles after insert or update or delete on roles
    deferrable initially deferred for each row execute function feed_note('role', 'id');

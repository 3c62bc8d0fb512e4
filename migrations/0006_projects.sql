-- Owned by src/projects.
-- A team's share of the authority. Everything else names its project; the name never changes.

create table projects (
    name       text        primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    id         text        not null unique check (id ~ '^prj_[0-9a-f]{32}$'),
    -- Hosts that resources of this project may lie on: a name, or `*.` and a name. Null: any.
    hosts      text[],
    created_at timestamptz not null default authority_now()
);
insert into projects (name, id) values ('default', 'prj_' || replace(gen_random_uuid()::text, '-', ''));

-- Owned by src/agents.
create table agents (
    id         text        primary key check (id ~ '^agt_[0-9a-f]{32}$'),
    name       text        not null,
    owner      text,
    project    text        not null references projects,
    disabled   boolean     not null default false,
    created_at timestamptz not null default authority_now(),
    deleted_at timestamptz
);
create index agents_created on agents (created_at desc, id desc) where deleted_at is null;
create index agents_project on agents (project, created_at desc, id desc) where deleted_at is null;
create constraint trigger feed_agents after insert or update or delete on agents
    deferrable initially deferred for each row execute function feed_note('agent', 'id');

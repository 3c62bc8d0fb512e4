-- Owned by src/operators.
create table operators (
    id              text        primary key check (id ~ '^opr_[0-9A-Za-z]{12}$'),
    name            text        not null,
    scopes          text[]      not null check (cardinality(scopes) between 1 and 64),
    -- Null: all projects.
    projects        text[],
    allowed_cidrs   text[],
    expires_in_days integer     not null check (expires_in_days > 0),
    disabled        boolean     not null default false,
    created_at      timestamptz not null default authority_now(),
    revoked_at      timestamptz
);
create index operators_created on operators (created_at desc, id desc);
create constraint trigger feed_operators after insert or update or delete on operators
    deferrable initially deferred for each row execute function feed_note('operator', 'id');

-- Owned by src/grants.
-- Which permissions a key or a role has on which server.
create table grants (
    holder      text   not null check (holder ~ '^(key_[0-9A-Za-z]{12}|rol_[0-9a-f]{32})$'),
    server_id   text   not null references servers,
    permissions text[] not null check (cardinality(permissions) between 1 and 200),
    primary key (holder, server_id)
);
create index grants_server on grants (server_id, holder);
create constraint trigger feed_grants after insert or update or delete on grants
    deferrable initially deferred for each row execute function feed_note('grant', 'holder');

-- What the lists of a large installation hold, for the tests beside it.
do $$ declare t text; begin
    foreach t in array array['agents', 'servers', 'clients', 'providers', 'issuers', 'users', 'user_roles', 'consents', 'keys', 'key_roles', 'roles', 'operators', 'secrets', 'grants', 'revocations', 'audit_log'] loop
        execute format('alter table %I disable trigger user', t);
    end loop; end $$;
insert into projects (name, id, created_at) select 'p' || n, 'prj_' || md5('p' || n), authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into agents (id, name, project, disabled, created_at)
    select 'agt_' || md5('a' || n), 'agent ' || n, case when n % 2 = 0 then 'p1' else 'p' || (1 + n % 2000) end, n % 50 = 0, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into servers (id, name, project, resource, canonical, environment, disabled, created_at)
    select 'srv_' || left(md5('s' || n), 12), 'server ' || n, case when n % 2 = 0 then 'p1' else 'p' || (1 + n % 2000) end, 'https://s' || n || '.example.com', 'https://s' || n || '.example.com',
           case when n % 20 = 0 then 'dev' else 'prod' end, n % 50 = 0, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
-- As many as one server may have, of each of 20.
insert into tools (id, server_id, name, created_at)
    select 'tool_' || md5('t' || n), 'srv_' || left(md5('s' || (1 + n % 20)), 12), 'tool ' || n, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into clients (id, kind, client_id, name, project, metadata, disabled, created_at)
    select 'cli_' || md5('c' || n), case n % 20 when 0 then 'registered' when 1 then 'document' else 'dynamic' end,
           case when n % 20 = 1 then 'https://c' || n || '.example/client.json' else 'cli_' || md5('c' || n) end, 'client ' || n,
           case when n % 2 = 0 then 'p1' else 'p' || (1 + n % 2000) end, '{}', n % 50 = 0, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into roles (id, name, project, created_at)
    select 'rol_' || md5('r' || n), 'role ' || n, 'p' || (1 + n % 2000), authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into providers (id, name, title, kind, created_at)
    select 'idp_' || md5('i' || n), 'provider-' || n, 'provider ' || n, 'openid', authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into issuers (id, name, issuer, created_at)
    select 'iss_' || md5('w' || n), 'issuer ' || n, 'https://i' || n || '.example', authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into webhooks (id, name, url, events, signature, created_at)
    select 'whk_' || md5('w' || n), 'webhook ' || n, 'https://w' || n || '.example', '{*}', 'v1a', authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into deliveries (id, event_id, type, webhook_id, body, status, next_attempt_at, ended_at, created_at)
    select 'dlv_' || md5('d' || n), 'evt_' || md5('d' || n), 'key.issued', 'whk_' || md5('w' || case when n % 2 = 0 then 1 else 1 + n % 2000 end), '{}', s.status,
           case when s.status = 'pending' then authority_now() end, case when s.status <> 'pending' then authority_now() end, authority_now() - n * interval '1 minute'
      from generate_series(1, 50000) n, lateral (select case when n % 20 = 0 then 'dead' when n % 20 = 2 then 'pending' else 'delivered' end as status) s;
insert into users (id, provider_id, subject, username, disabled, created_at)
    select 'usr_' || md5('u' || n), 'idp_' || md5('i' || case when n % 2 = 0 then 1 else 1 + n % 50 end), 's' || n, 'user ' || n, n % 50 = 0, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into user_roles (user_id, role_id) select 'usr_' || md5('u' || n), 'rol_' || md5('r' || (1 + n % 50)) from generate_series(1, 20000) n;
insert into consents (id, user_id, client_id, server_id, permissions, created_at)
    select 'grt_' || md5('g' || n), 'usr_' || md5('u' || case when n % 4 = 0 then 1 else n end), 'cli_' || md5('c' || case when n % 4 = 1 then 1 else n end),
           'srv_' || left(md5('s' || case when n % 4 = 2 then 1 else n end), 12), '{*}', authority_now() - n * interval '1 minute' from generate_series(2, 20000) n;
insert into flows (id, client_id, server_id, user_id, project, result, created_at, expires_at)
    select 'flw_' || md5('f' || n), 'c' || case when n % 2 = 0 then 1 else n % 500 end, 'srv_' || left(md5('s' || n % 4000), 12),
           'usr_' || md5('u' || case when n % 2 = 0 then 1 else 2 + n % 5000 end), case when n % 2 = 0 then 'p1' else 'p' || (1 + n % 2000) end,
           case n % 50 when 0 then 'refused' when 1 then 'open' else 'done' end, authority_now() - n * interval '1 minute', authority_now() + interval '7 days'
      from generate_series(1, 20000) n;
insert into operators (id, name, scopes, projects, expires_in_days, created_at)
    select 'opr_' || left(md5('o' || n), 12), 'operator ' || n, '{*}', array['p' || (1 + n % 2000)], 90, authority_now() - n * interval '1 minute' from generate_series(1, 20000) n;
insert into keys (id, agent_id, name, environment, direct, expires_in_days, disabled, created_at)
    select 'key_' || left(md5('k' || n), 12), 'agt_' || md5('a' || (1 + n % 4000)), 'key ' || n, case when n % 20 = 0 then 'dev' else 'prod' end, true, 90, n % 50 = 0,
           authority_now() - n * interval '1 minute' from generate_series(1, 40000) n;
insert into key_claims (id, key_id, version, token_digest, created_by, created_at, expires_at)
    select 'clm_' || md5('m' || n), 'key_' || left(md5('k' || case when n % 2 = 0 then 7 else n end), 12), 1, sha256(n::text::bytea), 'opr_5',
           authority_now() - n * interval '1 minute', authority_now() from generate_series(1, 20000) n;
insert into secrets (owner, version, secret_key, digest, hint, expires_at)
    select id, 1, 'k', sha256(id::bytea), 'abcd', authority_now() + interval '90 days' - n * interval '4 minutes'
      from (select id, row_number() over (order by id) as n from keys union all select id, 1 from operators) as owners;
update keys k set ends_at = s.expires_at from secrets s where s.owner = k.id;
insert into secret_uses (owner, version, last_used_at) select id, 1, created_at from keys;
insert into grants (holder, server_id, permissions)
    select id, 'srv_' || left(md5('s' || case when n % 2 = 0 then 1 else 2 + n % 4000 end), 12), '{*}' from (select id, row_number() over (order by id) as n from keys) as holders;
insert into grants (holder, server_id, permissions) select id, 'srv_' || left(md5('s2'), 12), '{*}' from (select id from roles order by created_at desc limit 50) as few;
insert into key_roles (key_id, role_id) select 'key_' || left(md5('k' || n), 12), 'rol_' || md5('r' || (1 + n % 50)) from generate_series(1, 20000) n;
insert into revocations (id, kind, target, actor, project, at, history, number, prune_at)
    select 'rev_' || md5(n::text), case when n % 10 = 0 then 'key' else 'token' end, case when n % 10 = 0 then 'key_' || left(md5('k' || n / 10), 12) else 'ses_' || md5(n::text) end,
           'opr_1', 'p' || (1 + n % 2000), authority_now() - n * interval '1 second', 1, n, authority_now() + interval '1 hour' from generate_series(1, 50000) n;
insert into sessions (id, key_id, key_version, agent_id, server_id, permissions, history, number, kid, issued_at, expires_at)
    select overlay(id_at('ses', authority_now() + interval '12 hours' - n * interval '1 second') placing lpad(to_hex(n), 8, '0') from 29), k.id, 1, k.agent_id, 'srv_' || left(md5('s' || (1 + n % 4000)), 12),
           '{*}', 1, 1, 'k', authority_now() - n * interval '1 second', authority_now() - n * interval '1 second' + interval '15 minutes'
      from generate_series(1, 50000) n join (select id, agent_id, row_number() over (order by id) as nr from keys) k on k.nr = 1 + n % 40000;
insert into sessions (id, user_id, client_id, consent_id, server_id, permissions, history, number, kid, issued_at, expires_at)
    select overlay(id_at('ses', authority_now() + interval '12 hours' - n * interval '1 second') placing lpad(to_hex(n), 8, 'f') from 29), 'usr_' || md5('u' || (1 + n % 5000)),
           'cli_' || md5('c' || 20 * (1 + n % 900)), 'grt_' || md5('g' || n), 'srv_' || left(md5('s' || (1 + n % 4000)), 12),
           '{*}', 1, 1, 'k', authority_now() - n * interval '1 second', authority_now() - n * interval '1 second' + interval '15 minutes'
      from generate_series(1, 50000) n;
insert into audit_chains (chain) values ('node:00000000000000000000000000000001');
insert into audit_log (chain, position, hash, at, body)
    select case when n % 2 = 0 then 'changes' else 'node:00000000000000000000000000000001' end, n / 2, sha256(n::text::bytea), authority_now() + (n - 30000) * interval '2 minutes',
           json_build_object('id', 'evt_' || md5(n::text), 'actor', 'opr_' || n % 500, 'action', 'thing.done' || n % 50, 'target', 'key_' || left(md5('k' || n % 4000), 12),
               'result', case when n % 50 = 0 then 'refused' else 'done' end, 'project', 'p' || (1 + n % 2000), 'agent_id', 'agt_' || md5('a' || (1 + n % 4000)),
               'key_id', 'key_' || left(md5('k' || n % 4000), 12), 'server_id', 'srv_' || left(md5('s' || n % 4000), 12))
      from generate_series(1, 50000) n;
insert into audit_checkpoints (number, kid, jws) select n, 'k', 'x' from generate_series(1, 20000) n;
insert into introspections (minute, credential, server_id, outcome, count)
    select date_trunc('minute', authority_now()) - n * interval '1 minute', 'key_' || left(md5('k' || n % 100), 12), 'srv_1', 'expired', 1 from generate_series(1, 50000) n;
analyze;

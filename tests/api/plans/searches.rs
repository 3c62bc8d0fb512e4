//! The lists that are searched: of agents, servers, clients and keys. What narrows to few is asked for its ids; else a page of the
//! newest is looked at, and where it ended is asked when little was found.

use super::{AGENT, AT, CLIENT, LARGE_SERVER, LOOKED_AT, List, PROJECT, PROJECTS, ROLES_SERVER, SERVER, USER};

const LARGE_PROJECT: &str = "'p1'";
const LARGE_PROJECTS: &str = "array['p1', 'p2', 'p4']";
const AGENTS: &str = "array['agt_' || md5('a7'), 'agt_' || md5('a8')]";
const LAST: &str = "1999";
const LONG_AGO: &str = "authority_now() - interval '20 years'";
const FAR: &str = "authority_now() + interval '20 years'";
const PROVIDER: &str = "'idp_' || md5('i1')";
const USERS: &str = "array['usr_' || md5('u7'), 'usr_' || md5('u8')]";
const LARGE_USER: &str = "'usr_' || md5('u1')";
const LARGE_CLIENT: &str = "'cli_' || md5('c1')";
const CONSENTS: &str = "array['grt_' || md5('g7'), 'grt_' || md5('g8')]";
const FLOWS: &str = "array['flw_' || md5('f7'), 'flw_' || md5('f8')]";
const NOBODY: &str = "'agent 20001'";
const KEYS: &str = "array['key_' || left(md5('k7'), 12), 'key_' || left(md5('k8'), 12)]";

pub(super) const SEARCHES: &[List] = &[
    List {
        operation: "list_agents",
        statement: "from (select * from agents\n",
        parameters: 9,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'agt_5'")],
            &[(4, LOOKED_AT), (1, AGENTS)],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, LARGE_PROJECT)],
            &[(4, LOOKED_AT), (6, LARGE_PROJECT), (7, NOBODY)],
            &[(4, LOOKED_AT), (7, NOBODY)],
            &[(4, LOOKED_AT), (8, "true")],
            &[(4, LOOKED_AT), (8, "false")],
            &[(4, LOOKED_AT), (2, AT), (3, "'agt_5'"), (5, PROJECTS), (7, NOBODY), (8, "true")],
        ],
    },
    List {
        operation: "list_agents",
        statement: "from agents where lower(name)",
        parameters: 2,
        given: &[
            &[(1, "'AGENT 19999'"), (2, LOOKED_AT)],
            &[(1, "'agent'"), (2, LOOKED_AT)],
            &[(1, "''"), (2, LOOKED_AT)],
        ],
    },
    List {
        operation: "list_agents",
        statement: "from agents where deleted_at is null and project = any",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_agents",
        statement: "select created_at as at, id from agents",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'agt_5'"), (3, LAST)]],
    },
    List {
        operation: "list_servers",
        statement: "from (select * from servers\n",
        parameters: 10,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'srv_5'")],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, LARGE_PROJECT)],
            &[(4, LOOKED_AT), (7, NOBODY)],
            &[(4, LOOKED_AT), (8, "'dev'")],
            &[(4, LOOKED_AT), (9, "true")],
            &[(4, LOOKED_AT), (2, AT), (3, "'srv_5'"), (5, PROJECTS), (7, NOBODY), (8, "'dev'"), (9, "true")],
        ],
    },
    List {
        operation: "list_servers",
        statement: "from servers where lower(name)",
        parameters: 2,
        given: &[&[(1, "'SERVER 19999'"), (2, LOOKED_AT)], &[(1, "'server'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_servers",
        statement: "from servers where deleted_at is null and project = any",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_servers",
        statement: "select created_at as at, id from servers",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'srv_5'"), (3, LAST)]],
    },
    List {
        operation: "list_clients",
        statement: "from (select * from clients\n",
        parameters: 10,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'cli_5'")],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, LARGE_PROJECT)],
            &[(4, LOOKED_AT), (7, NOBODY)],
            &[(4, LOOKED_AT), (8, "'registered'")],
            &[(4, LOOKED_AT), (9, "true")],
            &[(4, LOOKED_AT), (2, AT), (3, "'cli_5'"), (5, PROJECTS), (7, NOBODY), (8, "'dynamic'"), (9, "true")],
        ],
    },
    List {
        operation: "list_clients",
        statement: "from clients where lower(name)",
        parameters: 2,
        given: &[&[(1, "'CLIENT 19999'"), (2, LOOKED_AT)], &[(1, "'client'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_clients",
        statement: "from clients where deleted_at is null and kind between",
        parameters: 2,
        given: &[&[(1, "'registered'"), (2, LOOKED_AT)], &[(1, "'dynamic'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_clients",
        statement: "from clients where deleted_at is null and project = any",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_clients",
        statement: "select created_at as at, id from clients",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'cli_5'"), (3, LAST)]],
    },
    List {
        operation: "list_users",
        statement: "from (select * from users\n",
        parameters: 8,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'usr_5'")],
            &[(4, LOOKED_AT), (1, USERS)],
            &[(4, LOOKED_AT), (5, PROVIDER)],
            &[(4, LOOKED_AT), (6, "'user 20001'")],
            &[(4, LOOKED_AT), (7, "true")],
            &[(4, LOOKED_AT), (2, AT), (3, "'usr_5'"), (5, PROVIDER), (6, "'user 20001'"), (7, "true")],
        ],
    },
    List {
        operation: "list_users",
        statement: "from users where lower(username)",
        parameters: 2,
        given: &[&[(1, "'USER 19999'"), (2, LOOKED_AT)], &[(1, "'user'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_users",
        statement: "from users where provider_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, PROVIDER), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_users",
        statement: "select created_at as at, id from users",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'usr_5'"), (3, LAST)]],
    },
    List {
        operation: "list_consents",
        statement: "from (select * from consents\n",
        parameters: 9,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'grt_5'")],
            &[(4, LOOKED_AT), (1, CONSENTS)],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, USER)],
            &[(4, LOOKED_AT), (7, CLIENT)],
            &[(4, LOOKED_AT), (8, SERVER)],
            &[(4, LOOKED_AT), (2, AT), (3, "'grt_5'"), (5, PROJECTS), (6, USER), (7, CLIENT), (8, SERVER)],
        ],
    },
    List {
        operation: "list_consents",
        statement: "from consents where user_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, USER), (2, LOOKED_AT)], &[(1, LARGE_USER), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_consents",
        statement: "from consents where client_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, CLIENT), (2, LOOKED_AT)], &[(1, LARGE_CLIENT), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_consents",
        statement: "from consents where server_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, SERVER), (2, LOOKED_AT)], &[(1, LARGE_SERVER), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_consents",
        statement: "left join lateral (select id from consents",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_consents",
        statement: "select created_at as at, id from consents",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'grt_5'"), (3, LAST)]],
    },
    List {
        operation: "list_flows",
        statement: "from (select * from flows\n",
        parameters: 9,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'flw_5'")],
            &[(4, LOOKED_AT), (1, FLOWS)],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, "'c20001'")],
            &[(4, LOOKED_AT), (7, USER)],
            &[(4, LOOKED_AT), (8, "'refused'")],
            &[(4, LOOKED_AT), (2, AT), (3, "'flw_5'"), (5, PROJECTS), (6, "'c7'"), (7, USER), (8, "'open'")],
        ],
    },
    List {
        operation: "list_flows",
        statement: "from flows where user_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, USER), (2, LOOKED_AT)], &[(1, LARGE_USER), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_flows",
        statement: "from flows where client_id between $1 and $1",
        parameters: 2,
        given: &[&[(1, "'c7'"), (2, LOOKED_AT)], &[(1, "'c1'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_flows",
        statement: "from flows where project = any",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_flows",
        statement: "from flows where result between $1 and $1",
        parameters: 2,
        given: &[&[(1, "'refused'"), (2, LOOKED_AT)], &[(1, "'done'"), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_flows",
        statement: "select created_at as at, id from flows",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'flw_5'"), (3, LAST)]],
    },
    List {
        operation: "list_keys",
        statement: "from (select * from keys\n",
        parameters: 14,
        given: &[
            &[(4, LOOKED_AT)],
            &[(4, LOOKED_AT), (2, AT), (3, "'key_5'")],
            &[(4, LOOKED_AT), (1, KEYS)],
            &[(4, LOOKED_AT), (1, KEYS), (12, SERVER)],
            &[(4, LOOKED_AT), (5, PROJECTS)],
            &[(4, LOOKED_AT), (6, PROJECT)],
            &[(4, LOOKED_AT), (6, LARGE_PROJECT), (11, NOBODY)],
            &[(4, LOOKED_AT), (7, AGENT)],
            &[(4, LOOKED_AT), (8, "'dev'")],
            &[(4, LOOKED_AT), (8, "'prod'"), (13, LONG_AGO)],
            &[(4, LOOKED_AT), (9, "'active'")],
            &[(4, LOOKED_AT), (9, "'due'")],
            &[(4, LOOKED_AT), (9, "'disabled'")],
            &[(4, LOOKED_AT), (9, "'expired'")],
            &[(4, LOOKED_AT), (9, "'overlap'")],
            &[(4, LOOKED_AT), (9, "'revoked'")],
            &[(4, LOOKED_AT), (10, LONG_AGO)],
            &[(4, LOOKED_AT), (11, NOBODY)],
            &[(4, LOOKED_AT), (12, LARGE_SERVER)],
            &[(4, LOOKED_AT), (12, ROLES_SERVER)],
            &[(4, LOOKED_AT), (12, "'srv_0'")],
            &[(4, LOOKED_AT), (13, LONG_AGO)],
            &[(4, LOOKED_AT), (2, AT), (3, "'key_5'"), (5, PROJECTS), (9, "'active'"), (12, SERVER), (13, LONG_AGO)],
        ],
    },
    List {
        operation: "list_keys",
        statement: "select created_at as at, id from keys",
        parameters: 3,
        given: &[&[(3, LAST)], &[(1, AT), (2, "'key_5'"), (3, LAST)]],
    },
    List {
        operation: "list_keys",
        statement: "left join lateral (select key_id from key_roles",
        parameters: 2,
        given: &[
            &[(1, SERVER), (2, LOOKED_AT)],
            &[(1, LARGE_SERVER), (2, LOOKED_AT)],
            &[(1, ROLES_SERVER), (2, LOOKED_AT)],
        ],
    },
    List {
        operation: "list_keys",
        statement: "from keys where lower(name)",
        parameters: 2,
        given: &[
            &[(1, "'KEY 39999'"), (2, LOOKED_AT)],
            &[(1, "'key'"), (2, LOOKED_AT)],
            &[(1, "'agent'"), (2, LOOKED_AT)],
        ],
    },
    List {
        operation: "list_keys",
        statement: "from keys where ends_at < $1",
        parameters: 2,
        given: &[&[(1, AT), (2, LOOKED_AT)], &[(1, FAR), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "from keys where ends_at <= authority_now()",
        parameters: 1,
        given: &[&[(1, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "from keys where ends_at > authority_now() and ends_at <= authority_now() + make_interval(",
        parameters: 1,
        given: &[&[(1, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "from keys where overlap_until > authority_now()",
        parameters: 1,
        given: &[&[(1, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "from keys where revoked_at is not null",
        parameters: 1,
        given: &[&[(1, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "left join lateral (select id from keys",
        parameters: 2,
        given: &[&[(1, PROJECTS), (2, LOOKED_AT)], &[(1, LARGE_PROJECTS), (2, LOOKED_AT)]],
    },
    List {
        operation: "list_keys",
        statement: "from keys where agent_id between",
        parameters: 2,
        given: &[&[(1, AGENT), (2, LOOKED_AT)], &[(1, "'agt_0'"), (2, LOOKED_AT)]],
    },
    List { operation: "list_keys", statement: "from keys where disabled", parameters: 1, given: &[&[(1, LOOKED_AT)]] },
    List {
        operation: "list_keys",
        statement: "from keys where environment between",
        parameters: 2,
        given: &[&[(1, "'dev'"), (2, LOOKED_AT)], &[(1, "'prod'"), (2, LOOKED_AT)]],
    },
];

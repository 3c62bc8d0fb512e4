//! Every list is an index scan: the real statements, as the compiler checked them, are explained on tables with many rows.

mod notices;
mod searches;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::support::{Node, TestDb};
use searches::SEARCHES;

/// Rows that a sequential scan or a sort may take: a page of each of a few things, not a table.
const ROWS_MAX: f64 = 5_000.0;
/// Rows that a page may read that is narrowed by nothing but its place.
const PAGE_ROWS_MAX: f64 = 1_000.0;
/// Rows of one table that a page of a search may read, however little it finds: what its statement says.
const LOOKED_AT_MAX: f64 = 2_000.0;

const AGENT: &str = "'agt_' || md5('a7')";
const KEY: &str = "'key_' || left(md5('k7'), 12)";
const SERVER: &str = "'srv_' || left(md5('s7'), 12)";
const LARGE_SERVER: &str = "'srv_' || left(md5('s1'), 12)";
const ROLES_SERVER: &str = "'srv_' || left(md5('s2'), 12)";
const PROJECT: &str = "'p8'";
const PROJECTS: &str = "array['p8', 'p10']";
const AT: &str = "authority_now() - interval '5 days'";
const LOOKED_AT: &str = "2000";
const WEBHOOK: &str = "'whk_' || md5('w1')";
const USER: &str = "'usr_' || md5('u7')";
const CLIENT: &str = "'cli_' || md5('c140')";
const SESSION: &str = "id_at('ses', authority_now() + interval '1 hour')";

/// A list: its operation, what tells its statement from all others, how many parameters that has, and which of them are
/// given at once; the others are null. The last is how many rows are wanted.
struct List {
    operation: &'static str,
    statement: &'static str,
    parameters: usize,
    given: &'static [&'static [(usize, &'static str)]],
}

const LISTS: &[List] = &[
    List {
        operation: "list_projects",
        statement: "where ($1::text[] is null or name = any($1)) and ($2::timestamptz is null or",
        parameters: 4,
        given: &[&[], &[(1, PROJECTS)], &[(2, AT), (3, "'prj_5'")]],
    },
    List {
        operation: "list_roles",
        statement: "from roles\n         where ($1::text[] is null or project = any($1)) and ($2::text is null or project = $2)",
        parameters: 5,
        given: &[&[], &[(1, PROJECTS)], &[(2, PROJECT)], &[(3, AT), (4, "'rol_5'")]],
    },
    List {
        operation: "list_providers",
        statement: "from providers\n         where deleted_at is null and ($1::timestamptz is null or",
        parameters: 3,
        given: &[&[], &[(1, AT), (2, "'idp_5'")]],
    },
    List {
        operation: "list_issuers",
        statement: "from issuers where $1::timestamptz is null or",
        parameters: 3,
        given: &[&[], &[(1, AT), (2, "'idp_5'")]],
    },
    List {
        operation: "list_webhooks",
        statement: "from webhooks where $1::timestamptz is null or",
        parameters: 3,
        given: &[&[], &[(1, AT), (2, "'whk_5'")]],
    },
    List {
        operation: "list_deliveries",
        statement: "from deliveries where webhook_id = $1 and ($2::text is null or status = $2)\n           and",
        parameters: 5,
        given: &[
            &[(1, WEBHOOK)],
            &[(1, WEBHOOK), (2, "'dead'")],
            &[(1, WEBHOOK), (2, "'pending'")],
            &[(1, WEBHOOK), (3, AT), (4, "'dlv_5'")],
        ],
    },
    List {
        operation: "list_claims",
        statement: "from key_claims where key_id = $1",
        parameters: 2,
        given: &[&[(1, KEY)]],
    },
    List {
        operation: "list_operators",
        statement: "where ($1::text[] is null or (o.projects is not null and o.projects <@ $1))\n             and ($2::timestamptz",
        parameters: 4,
        given: &[&[], &[(1, PROJECTS)], &[(2, AT), (3, "'opr_5'")]],
    },
    List {
        operation: "list_sessions",
        statement: "from session_list s\n               where ($1::text[] is null or",
        parameters: 9,
        given: &[
            &[],
            &[(1, PROJECTS)],
            &[(2, KEY)],
            &[(3, SERVER)],
            &[(4, "'active'")],
            &[(4, "'expired'")],
            &[(5, AT)],
            &[(6, SESSION)],
            &[(7, USER)],
            &[(8, CLIENT)],
            &[(6, SESSION), (7, USER)],
            &[(2, KEY), (6, SESSION)],
            &[(3, SERVER), (4, "'revoked'"), (6, SESSION)],
        ],
    },
    List {
        operation: "list_sessions",
        statement: "from keys k cross join lateral (\n               select * from session_list",
        parameters: 10,
        given: &[
            &[(2, AGENT)],
            &[(1, PROJECTS), (2, AGENT)],
            &[(2, AGENT), (3, KEY)],
            &[(2, AGENT), (4, SERVER)],
            &[(2, AGENT), (5, "'active'")],
            &[(2, AGENT), (7, SESSION)],
        ],
    },
    List {
        operation: "list_revocations",
        statement: "from revocations\n           where ($1::text[] is null or project = any($1)) and ($2::text is null or kind = $2)",
        parameters: 6,
        given: &[
            &[],
            &[(1, PROJECTS)],
            &[(2, "'key'")],
            &[(2, "'all'")],
            &[(3, "'ses_' || md5('7')")],
            &[(2, "'token'"), (3, "'ses_' || md5('7')")],
            &[(4, AT), (5, "'rev_5'")],
        ],
    },
    List {
        operation: "list_audit",
        statement: "and ($5::text is null or agent_id = $5 or target = $5)",
        parameters: 14,
        given: &[
            &[],
            &[(1, PROJECTS)],
            &[(2, "'opr_7'")],
            &[(3, "'thing.done7'")],
            &[(4, KEY)],
            &[(5, AGENT)],
            &[(6, KEY)],
            &[(7, SERVER)],
            &[(8, PROJECT)],
            &[(9, "'refused'")],
            &[(10, AT)],
            &[(11, AT)],
            &[(12, AT), (13, "'evt_5'")],
            &[(5, AGENT), (10, AT), (12, AT), (13, "'evt_5'")],
        ],
    },
    List {
        operation: "list_audit_checkpoints",
        statement: "from audit_checkpoints where number >= $1 order by number limit $2",
        parameters: 2,
        given: &[&[(1, "1")], &[(1, "15000")]],
    },
    List {
        operation: "list_tools",
        statement: "from tools where server_id = $1 and ($2::text is null or",
        parameters: 5,
        given: &[
            &[(1, LARGE_SERVER)],
            &[(1, LARGE_SERVER), (2, "'tool 77'")],
            &[(1, LARGE_SERVER), (3, AT), (4, "'tool_5'")],
        ],
    },
    List {
        operation: "list_server_grants",
        statement: "from ((select holder as key_id",
        parameters: 3,
        given: &[&[(1, LARGE_SERVER)], &[(1, ROLES_SERVER)], &[(1, LARGE_SERVER), (2, "'key_8'")]],
    },
    List {
        operation: "list_key_events",
        statement: "from introspections\n           where credential = $1",
        parameters: 2,
        given: &[&[(1, KEY)]],
    },
];

/// The nodes that run and the jobs are a few, and all of them are the list.
const ALL_OF_IT: [&str; 2] = ["list_nodes", "list_jobs"];

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every statement of the service, from what the compiler checked.
fn statements() -> Vec<String> {
    let files = std::fs::read_dir(repository(".sqlx")).expect(".sqlx");
    files
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("its text"))
        .map(|text| serde_json::from_str::<Value>(&text).expect("JSON")["query"].as_str().expect("a query").to_owned())
        .collect()
}

/// What a plan does that takes as long as the table is large, or reads more than `most` rows of one, and how many it reads.
fn faults(node: &Value, most: f64, found: &mut Vec<String>) -> f64 {
    let number = |node: &Value, name: &str| node[name].as_f64().unwrap_or(0.0);
    let kind = node["Node Type"].as_str().expect("a node");
    let inner: Vec<Value> = node["Plans"].as_array().cloned().unwrap_or_default();
    let rows = (number(node, "Actual Rows") + number(node, "Rows Removed by Filter")) * number(node, "Actual Loops");
    if kind == "Seq Scan" && rows > ROWS_MAX {
        found.push(format!("reads all of {}: {rows} rows", node["Relation Name"]));
    }
    if kind.ends_with("Sort") {
        let sorted: f64 = inner.iter().map(|node| number(node, "Actual Rows") * number(node, "Actual Loops")).sum();
        if sorted > ROWS_MAX {
            found.push(format!("sorts {sorted} rows by {}", node["Sort Key"]));
        }
    }
    let read = if node["Relation Name"].is_string() { rows } else { 0.0 };
    if read > most {
        found.push(format!("reads {read} rows of {}", node["Relation Name"]));
    }
    read + inner.iter().map(|inner| faults(inner, most, found)).sum::<f64>()
}

async fn explained(connection: &mut PgConnection, list: &List, query: &str, given: &[(usize, &str)]) -> Value {
    let value = |place| given.iter().find(|(given, _)| *given == place).map_or("null", |(_, value)| value);
    let mut values: Vec<&str> = (1..=list.parameters).map(value).collect();
    if let Some(rows) = values.last_mut().filter(|rows| **rows == "null") {
        *rows = "51";
    }
    // As `begin_list` has them planned.
    let prepare = format!("set plan_cache_mode = force_custom_plan; deallocate all; prepare list as {query}");
    connection.execute(AssertSqlSafe(prepare)).await.unwrap_or_else(|error| panic!("{}: {error}", list.operation));
    let explain = format!("explain (analyze, timing off, format json) execute list({})", values.join(", "));
    let row = connection.fetch_one(AssertSqlSafe(explain)).await;
    row.unwrap_or_else(|error| panic!("{} {given:?}: {error}", list.operation)).get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_with_every_filter_is_an_index_scan_and_its_last_page_costs_what_its_first_does() {
    let db = TestDb::new().await;
    db.execute(include_str!("rows.sql")).await;
    let statements = statements();
    let mut connection = db.connection().await;
    let bounded = SEARCHES.iter().map(|list| (list, LOOKED_AT_MAX));
    for (list, most) in LISTS.iter().map(|list| (list, f64::INFINITY)).chain(bounded) {
        let real: Vec<&String> = statements.iter().filter(|text| text.contains(list.statement)).collect();
        let [real] = real[..] else { panic!("{}: {} statements say {}", list.operation, real.len(), list.statement) };
        for given in list.given {
            let plan = &explained(&mut connection, list, real, given).await[0]["Plan"];
            let mut found = Vec::new();
            let rows = faults(plan, most, &mut found);
            assert!(found.is_empty(), "{} {given:?} {found:?}\n{plan:#}", list.operation);
            let place = |number: usize, value: &str| {
                [AT, SESSION].contains(&value)
                    || value.ends_with("_5'")
                    || (value == LOOKED_AT && number < list.parameters)
            };
            let is_page = given.iter().all(|(number, value)| place(*number, value));
            assert!(!is_page || rows <= PAGE_ROWS_MAX, "{} {given:?} reads {rows} rows\n{plan:#}", list.operation);
        }
    }
}

#[test]
fn no_list_of_the_api_is_left_out() {
    let text = std::fs::read_to_string(repository("openapi/authority.json")).expect("the description");
    let description: Value = serde_json::from_str(&text).expect("JSON");
    let paths = description["paths"].as_object().expect("paths").values();
    let operations = paths.flat_map(|path| path.as_object().expect("methods").values());
    let lists: BTreeSet<&str> = operations
        .filter_map(|operation| operation["operationId"].as_str())
        .filter(|id| id.starts_with("list_"))
        .collect();
    let known: BTreeSet<&str> = LISTS.iter().chain(SEARCHES).map(|list| list.operation).chain(ALL_OF_IT).collect();
    assert_eq!(lists, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_planned_for_the_filters_that_it_has() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let mut list = node.app.db.begin_list().await.expect("begun");
    let mode: String = list.fetch_one("show plan_cache_mode").await.expect("shown").get(0);
    assert_eq!(mode, "force_custom_plan");
    let written =
        list.execute("insert into projects (name, id) values ('a', 'prj_00000000000000000000000000000000')").await;
    assert!(written.is_err(), "and it only reads");
    for list in [
        "agents",
        "clients",
        "issuers",
        "keys",
        "operators",
        "projects",
        "providers",
        "roles",
        "servers",
        "tools",
        "users",
        "webhooks",
    ] {
        let room = std::fs::read_to_string(repository(&format!("src/{list}/mod.rs"))).expect("the room");
        let (_, body) = room.split_once("pub async fn list(").expect("its list");
        assert!(body.split("\n}\n").next().expect("a body").contains("db.begin_list()"), "{list}");
    }
    for list in ["audit", "revocations", "sessions", "servers"] {
        let alone = std::fs::read_to_string(repository(&format!("src/http/v1/{list}.rs")));
        let within = || std::fs::read_to_string(repository(&format!("src/http/v1/{list}/mod.rs")));
        let route = alone.or_else(|_| within()).expect("the route");
        assert!(route.contains("begin_list()"), "{list}");
    }
}

//! What grows is partitioned: made ahead, dropped when it is over, and nothing is lost where a partition is missing.

use mcp_authority::{db as ground, feed, jobs};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::audit_verify::verified;
use crate::support::node::SECRET_KEY;
use crate::support::{Node, TestDb, World};

const DAY: i64 = 86_400;

/// Runs all jobs until something is so. A job may have to come back: another holds its lock, or a reader the table.
async fn upkept(node: &Node, what: &str, mut so: impl AsyncFnMut() -> bool) {
    node.until(what, async || {
        let _ = jobs::run_all(&node.app).await;
        so().await
    })
    .await;
}

async fn is_there(db: &TestDb, table: &str) -> bool {
    db.count(&format!("select count(to_regclass('{table}'))")).await == 1
}

/// Where a row of a table lies.
async fn partition_of(db: &TestDb, table: &str, row: &str) -> String {
    use sqlx::Row;
    let mut connection = db.connection().await;
    let sql = format!("select tableoid::regclass::text from {table} where {row}");
    connection.fetch_one(AssertSqlSafe(sql)).await.expect("the row").get(0)
}

fn jti(token: &str) -> String {
    crate::support::jwt::claims(token)["jti"].as_str().expect("a jti").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_23_entries_older_than_audit_days_go_and_a_signed_record_says_from_when_the_rest_is_vouched_for() {
    let db = TestDb::new().await;
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    for _ in 0..5 {
        operator.post(&node, "/v1/agents", json!({"name": "old"})).await.created();
    }
    let mut tx = node.app.db.begin().await.expect("a transaction");
    let kept = jobs::sign_checkpoint(&node.app, &mut tx).await.expect("signed").into_iter().collect::<Vec<_>>();
    ground::commit(tx).await.expect("committed");
    let old = db.count("select count(*) from audit_log").await;
    let bound =
        db.count("select extract(epoch from high_at)::bigint from partitions where name = 'audit_entries'").await;
    // 400 days after the youngest entry that its partition may hold, less an hour: everything stays.
    let now = db.count("select extract(epoch from authority_now())::bigint").await;
    node.advance(&db, bound + 400 * DAY - now - 3_600).await;
    upkept(&node, "the audit's partitions are there", async || {
        db.count("select count(*) from partitions where parent = 'audit_log' and high_at > authority_now() + interval '7 days'").await > 0
    })
    .await;
    assert!(is_there(&db, "audit_entries").await && verified(&db, &kept).await.vouches_from.is_none());
    node.advance(&db, 3_601).await;
    upkept(&node, "the old partition is gone", async || !is_there(&db, "audit_entries").await).await;
    assert_eq!(db.count("select count(*) from audit_log where body::text like '%agent.created%'").await, 0);
    assert_eq!(db.count("select count(*) from audit_checkpoints where removes").await, 1);
    let operator = node.operator().await;
    for _ in 0..5 {
        operator.post(&node, "/v1/agents", json!({"name": "new"})).await.created();
    }
    node.stop().await;
    let after = verified(&db, &kept).await;
    assert_eq!(after.findings, [], "what is left is as it was written, and so is what was kept elsewhere");
    assert_eq!(after.vouches_from, Some(bound));
    assert!(after.entries >= 6 && after.entries < old + 20, "{after:?}");
    let first = "(select min(position) from audit_log where chain = 'changes')";
    for (done, finding) in [
        (format!("delete from audit_log where chain = 'changes' and position = {first}"), "removed: entries "),
        ("update audit_checkpoints set removes = false where removes".to_owned(), "removed: entries 1 to "),
        (
            "update audit_checkpoints set jws = overlay(jws placing 'A' from 150 for 1) where removes".to_owned(),
            "checkpoint ",
        ),
        ("delete from audit_checkpoints where removes".to_owned(), "removed: entries 1 to "),
        (
            format!(
                "update audit_log set body = replace(body::text, 'new', 'nEw')::json, hash = sha256(hash) where chain = 'changes' and position = {first}"
            ),
            "changed: entry ",
        ),
        ("update audit_chains set position = 1 where chain = 'changes'".to_owned(), "rewritten: "),
    ] {
        let copy = db.copy().await;
        copy.execute(&done).await;
        let found = verified(&copy, &kept).await.findings;
        assert!(found.iter().any(|found| found.to_string().starts_with(finding)), "{done}\nfound {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_dropped_by_the_partition_and_only_when_all_in_it_have_ended() {
    let world = World::new().await;
    let key = world.key(&["tools/call"]).await;
    let first = jti(&world.session(&key).await);
    let partition = partition_of(&world.db, "sessions", &format!("id = '{first}'")).await;
    assert!(partition.starts_with("sessions_2"), "the partition of its time: {partition}");
    // As a node writes it whose clock is wrong: an id of now, a life of next week.
    let copy = format!(
        "insert into sessions select overlay(id placing 'ffff' from 33), key_id, key_version, agent_id, server_id, permissions, act, ancestors,
         client_ip, history, number, kid, issued_at, issued_at + interval '7 days' from sessions where id = '{first}'"
    );
    world.db.execute(&copy).await;
    world.advance(3 * DAY).await;
    let ahead = "select count(*) from partitions where parent = 'sessions' and high > id_at('ses', authority_now() + interval '6 hours')";
    upkept(&world.node, "partitions for now", async || world.db.count(ahead).await > 0).await;
    assert!(is_there(&world.db, &partition).await, "a token in it lives");
    assert_eq!(world.db.count("select count(*) from sessions").await, 2);
    world.advance(6 * DAY).await;
    upkept(&world.node, "it is dropped", async || !is_there(&world.db, &partition).await).await;
    let second = jti(&world.session(&key).await);
    let listed = world.operator.get(&world.node, "/v1/sessions").await.ok();
    assert_eq!(listed["items"].as_array().expect("items").len(), 1);
    assert_eq!(listed["items"][0]["id"], second.as_str());
    assert!(partition_of(&world.db, "sessions", &format!("id = '{second}'")).await.starts_with("sessions_2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_partition_is_missing_nothing_is_lost_and_the_job_mends_it() {
    let world = World::new().await;
    let key = world.key(&["tools/call"]).await;
    let missing = "do $$ declare p record; begin
        for p in select * from partitions where parent in ('sessions', 'feed') and high is not null and name <> 'feed_before' loop
            execute format('drop table %I', p.name);
        end loop; end $$";
    world.db.execute(missing).await;
    let token = world.session(&key).await;
    let row = format!("id = '{}'", jti(&token));
    assert_eq!(partition_of(&world.db, "sessions", &row).await, "sessions_rest");
    assert!(world.accepts(&token).await);
    upkept(&world.node, "all has its partition", async || {
        world.db.count("select count(*) from sessions_rest").await == 0
            && world
                .db
                .count("select count(*) from partitions where parent in ('sessions', 'feed') and high is not null")
                .await
                >= 4
    })
    .await;
    assert!(partition_of(&world.db, "sessions", &row).await.starts_with("sessions_2"), "it was moved");
    let id = jti(&token);
    world.post(&format!("/v1/sessions/{id}/revoke"), json!({})).await.enforced();
    assert!(!world.accepts(&token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_can_be_moved_at_once_stay_where_they_are_until_they_end() {
    let db = TestDb::new().await;
    db.execute(
        "do $$ declare p record; begin
            for p in select * from partitions where parent = 'sessions' and high is not null loop execute format('drop table %I', p.name); end loop;
         end $$;
         insert into sessions (id, key_id, key_version, agent_id, server_id, permissions, history, number, kid, issued_at, expires_at)
         select overlay(id_at('ses', authority_now()) placing lpad(n::text, 8, '0') from 29), 'key_1', 1, 'agt_1', 'srv_1', '{}', 1, 1, 'k',
                authority_now(), authority_now() + interval '1 hour' from generate_series(1, 10001) n",
    )
    .await;
    let node = Node::start(&db).await;
    assert_eq!(db.count("select count(*) from sessions_rest").await, 10_001);
    assert!(
        db.count("select count(*) from partitions where parent = 'sessions' and high is not null").await > 0,
        "the next are made"
    );
    node.advance(&db, 2 * DAY).await;
    upkept(&node, "they are over", async || db.count("select count(*) from sessions").await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_down_for_two_months_has_its_partitions_before_it_answers() {
    let db = TestDb::new().await;
    db.shift_clock(60 * DAY).await;
    // A command has no jobs that could mend it afterwards.
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-authority"))
        .args(["admin", "create-key", "--name", "a"])
        .env("MCPA_DATABASE_URL", db.options.to_url_lossy().as_str())
        .env("MCPA_SECRET_KEYS", SECRET_KEY)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(db.count("select count(*) from audit_log_rest").await, 0);
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let server = operator.server(&node).await;
    let key = operator.key(&node, &server, &["tools/call"]).await;
    let token = key.session(&node, &server).await;
    assert!(partition_of(&db, "sessions", &format!("id = '{}'", jti(&token))).await.starts_with("sessions_2"));
    let caught = "select (select count(*) from sessions_rest) + (select count(*) from audit_log_rest) + (select count(*) from feed_rest)";
    assert_eq!(db.count(caught).await, 0);
    assert!(db.count("select count(*) from audit_log where at > authority_now() - interval '1 hour'").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn guarantee_7_the_feed_loses_only_what_every_node_has_applied_and_never_its_newest_entry() {
    let db = TestDb::new().await;
    // Half a million changes long ago, the last of them a moment before a partition ends.
    db.execute(
        "insert into feed (number, history, kind, target, at) select n, 1, 'agent', 'agt_1', authority_now() - interval '2 hours'
           from generate_series(1, 499999) n on conflict do nothing;
         update feed_head set number = 499999;
         insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds) values (gen_random_uuid(), 1, 249999, '1', 'a', '{}', '{}')",
    )
    .await;
    let ground = db.db();
    let dropped = async || {
        let mut tx = ground.begin().await.expect("a transaction");
        let dropped = feed::drop_spent(&mut tx).await.expect("tried");
        ground::commit(tx).await.expect("committed");
        dropped
    };
    assert!(!dropped().await, "a node has not applied the last of them");
    db.execute("update nodes set applied = 499999").await;
    assert!(dropped().await && !is_there(&db, "feed_before").await);
    assert!(!dropped().await, "the newest entry stays, however old it is");
    assert_eq!(db.count("select min(number) from feed").await, 250_000);
    db.execute("begin; select feed_draw('agent', 'agt_1'); commit; update nodes set applied = 500000").await;
    assert!(dropped().await, "now another is the newest");
    assert_eq!(db.count("select count(*) from feed").await, 1);
    db.execute("update feed_head set number = 749999; insert into feed (number, history, kind, target) values (749999, 1, 'agent', 'agt_1'); \
                update nodes set applied = 750000; select feed_draw('agent', 'agt_1')").await;
    assert!(!dropped().await, "what is younger than an hour stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_table_for_long_keeps_a_partition_and_holds_up_nobody() {
    let world = World::new().await;
    let key = world.key(&["tools/call"]).await;
    let partition = partition_of(&world.db, "sessions", &format!("id = '{}'", jti(&world.session(&key).await))).await;
    let mut reader = world.db.connection().await;
    reader.execute("begin; select count(*) from sessions").await.expect("read");
    world.advance(3 * DAY).await;
    let _ = jobs::run_all(&world.node.app).await;
    assert!(is_there(&world.db, &partition).await);
    for _ in 0..20 {
        world.session(&key).await;
    }
    reader.execute("commit").await.expect("done");
    upkept(&world.node, "the next run drops it", async || !is_there(&world.db, &partition).await).await;
}

/// What nodes of the release before say to these tables, word for word.
const RELEASE_BEFORE: [&str; 7] = [
    "insert into audit_entries (chain, body) select 'changes', b::json from unnest(array['{\"id\": \"evt_1\"}', '{\"id\": \"evt_2\"}']) with ordinality as t (b, n) order by n on conflict (id) do nothing",
    "insert into audit_entries (chain, body) select 'changes', b::json from unnest(array['{\"id\": \"evt_1\"}', '{\"id\": \"evt_2\"}']) with ordinality as t (b, n) order by n on conflict (id) do nothing",
    "insert into sessions (id, key_id, key_version, agent_id, server_id, permissions, act, ancestors, client_ip, history, number, kid, issued_at, expires_at)
         select id, key_id, key_version, agent_id, server_id, permissions, act, ancestors, client_ip::inet,
                history, number, kid, to_timestamp(issued_at), to_timestamp(expires_at)
         from jsonb_to_recordset('[{\"id\": \"ses_019a00000000700080000000000000aa\", \"key_id\": \"key_1\", \"key_version\": 1, \"agent_id\": \"agt_1\", \"server_id\": \"srv_1\",
              \"permissions\": [\"*\"], \"ancestors\": [], \"history\": 1, \"number\": 1, \"kid\": \"k\", \"issued_at\": 1, \"expires_at\": 2}]') as r (id text, key_id text, key_version integer, agent_id text, server_id text, permissions text[],
              act jsonb, ancestors text[], client_ip text, history bigint, number bigint, kid text, issued_at bigint, expires_at bigint)",
    "delete from sessions where id in (select id from sessions where expires_at < authority_now() order by expires_at limit 10000)",
    "delete from feed where at < authority_now() - interval '1 hour' and number < (select number from feed_head) and number < coalesce((select min(applied) from nodes), 0)",
    "insert into revocations (id, kind, target, actor) values ('rev_00000000000000000000000000000001', 'all', 'all', 'system') on conflict do nothing",
    "select id as \"id!\", at, chain, coalesce(position, 0) as \"position!\", hash, body from audit_entries order by at desc, id desc limit 51",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_writes_and_reads_beside_this_one() {
    let db = TestDb::new().await;
    let mut old = db.connection().await;
    for statement in RELEASE_BEFORE {
        old.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(
        db.count("select count(*) from audit_log where position > 0 and id like 'evt__'").await,
        2,
        "once each, linked"
    );
    assert!(verified(&db, &[]).await.findings.is_empty());
    let node = Node::start(&db).await;
    node.operator().await;
    let both = "select (select count(*) from audit_entries where action = 'operator.created') - (select count(*) from audit_log where action = 'operator.created')";
    assert_eq!(db.count(both).await, 0, "what this release writes, the one before reads");
}

/// The number of the last migration of the release before.
const SCHEMA_BEFORE: i64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_before_left_is_still_there_under_this_one() {
    let db = TestDb::new().await;
    let mut connection = db.connection().await;
    connection.execute("drop schema public cascade; create schema public").await.expect("empty");
    migrate(&mut connection, 1, SCHEMA_BEFORE).await;
    connection
        .execute(
            "insert into sessions (id, key_id, key_version, agent_id, server_id, permissions, history, number, kid, issued_at, expires_at)
             select 'ses_' || lpad(to_hex((extract(epoch from authority_now()) * 1000)::bigint - n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'), 'key_1', 1, 'agt_1', 'srv_1', '{*}', 1, 1, 'k',
                    authority_now(), authority_now() + interval '15 minutes' from generate_series(1, 1000) n;
             insert into audit_entries (chain, body) select 'changes', json_build_object('id', 'evt_' || n) from generate_series(1, 1000) n",
        )
        .await
        .expect("filled");
    migrate(&mut connection, SCHEMA_BEFORE + 1, i64::MAX).await;
    connection.execute("update settings set lease_ms = 1000, previous_lease_ms = 1000").await.expect("a short lease");
    assert_eq!(db.count("select count(*) from sessions where tableoid = 'sessions_before'::regclass").await, 1_000);
    let node = Node::start(&db).await;
    let operator = node.operator().await;
    let listed = operator.get(&node, "/v1/sessions?limit=200&server_id=srv_1&key_id=key_1").await;
    assert_eq!(listed.status.as_u16(), 400, "an id that is none: {}", listed.text);
    let listed = operator.get(&node, "/v1/sessions?limit=200&status=active").await.ok();
    assert_eq!(listed["items"].as_array().expect("items").len(), 200);
    node.advance(&db, 3 * DAY).await;
    upkept(&node, "the old ones are dropped together", async || !is_there(&db, "sessions_before").await).await;
    node.stop().await;
    let found = verified(&db, &[]).await;
    assert!(found.findings.is_empty() && found.entries > 1_000, "{found:?}");
}

async fn migrate(connection: &mut sqlx::PgConnection, from: i64, to: i64) {
    for migration in ground::MIGRATIONS.iter().filter(|migration| (from..=to).contains(&migration.version)) {
        let sql = format!("begin; {}; commit", migration.sql.as_str());
        connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{}: {error}", migration.version));
    }
}

//! A batch of a job costs what it does, not what there is: its statements, explained on a hundred thousand keys.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{faults, statements};
use crate::support::TestDb;

/// Rows of one table that a batch may read: it looks at 200 versions, or at 1,000 keys.
const BATCH_ROWS_MAX: f64 = 5_000.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_notices_reads_no_more_than_a_batch_of_many_keys() {
    let db = TestDb::new().await;
    db.execute(
        "alter table keys disable trigger user;
         alter table secrets disable trigger user;
         insert into agents (id, name, project) values ('agt_' || md5('a'), 'a', 'default');
         insert into keys (id, agent_id, environment, direct, expires_in_days)
           select 'key_' || left(md5('m' || n), 12), 'agt_' || md5('a'), 'prod', true, 90 from generate_series(1, 100000) n;
         insert into secrets (owner, version, secret_key, digest, hint, expires_at)
           select id, 1, 'k', sha256(id::bytea), 'abcd', authority_now() + interval '10 days' from keys;
         insert into secret_uses (owner, version, last_used_at) select id, 1, authority_now() from keys;
         insert into key_notices (key_id, version, next_at)
           select owner, 1, authority_now() + (row_number() over (order by owner) - 20000) * interval '1 second' from secrets where owner like 'key%';
         analyze",
    )
    .await;
    let statements = statements();
    let mut connection = db.connection().await;
    for (statement, values) in [
        ("from key_notices where next_at <= authority_now()", "200"),
        ("select max(id) as last from (select id from keys", "'key_7', 1000"),
        ("from keys k cross join lateral (select owner, version, expires_at from secrets", "'key_7', 'key_728'"),
    ] {
        let real: Vec<&String> = statements.iter().filter(|text| text.contains(statement)).collect();
        let [real] = real[..] else { panic!("{} statements say {statement}", real.len()) };
        // Planned for any values too: the job's statements are prepared once.
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let prepare = format!("begin; set local plan_cache_mode = {mode}; deallocate all; prepare batch as {real}");
            connection.execute(AssertSqlSafe(prepare)).await.expect("prepared");
            let explain = format!("explain (analyze, timing off, format json) execute batch({values})");
            let plan: Value = connection.fetch_one(AssertSqlSafe(explain)).await.expect("explained").get(0);
            connection.execute("rollback").await.expect("taken back");
            let mut found = Vec::new();
            faults(&plan[0]["Plan"], BATCH_ROWS_MAX, &mut found);
            assert!(found.is_empty(), "{mode} {statement}: {found:?}\n{plan:#}");
        }
    }
}

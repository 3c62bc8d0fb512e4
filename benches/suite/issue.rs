//! Issuing session tokens: each is handed out only after its row is durable, so the rows are counted too.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use sqlx::{Executor, Row as _};

use crate::load::{Bodies, Run, Target, run};
use crate::process::Node;
use crate::world::{World, basic};

/// So many callers at once; more of them share a commit.
const CONNECTIONS: [u32; 2] = [64, 256];

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) connections: u32,
    #[serde(flatten)]
    pub(crate) run: Run,
    /// Processor time that PostgreSQL's processes used for each token, in microseconds.
    pub(crate) postgres_cpu_micros: f64,
}

pub(crate) async fn measure(
    world: &World<'_>,
    node: &Node,
    operator: &str,
    time: Duration,
) -> anyhow::Result<Vec<Row>> {
    let asker = world.asker(node, operator, "notes").await?;
    let agent = world.agent(node, operator).await?;
    let key = world.key(node, operator, &agent, &asker).await?;
    let authorization = basic(&key.id, &key.key);
    let body = format!("grant_type=client_credentials&resource={}", encoded(&asker.resource));
    let target = |connections| Target {
        process: &node.process,
        path: "/oauth/token",
        authorization: &authorization,
        connections,
    };
    run(&world.machine.guard, target(64), Bodies::One(&body), Duration::from_secs(1))?;
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        crate::say(&format!("issuing, {connections} connections"));
        let (rows_before, cpu_before) = (count(world).await?, world.machine.postgres_cpu()?);
        let run = run(&world.machine.guard, target(connections), Bodies::One(&body), time)?;
        let cpu = world.machine.postgres_cpu()?.saturating_sub(cpu_before);
        let written = count(world).await? - rows_before;
        ensure!(written >= run.requests, "{} tokens were handed out, and only {written} rows are there", run.requests);
        #[expect(clippy::cast_precision_loss, reason = "tokens of a run of seconds are far below 2^52")]
        let postgres_cpu_micros = cpu.as_secs_f64() * 1e6 / written as f64;
        rows.push(Row { connections, run, postgres_cpu_micros });
    }
    Ok(rows)
}

async fn count(world: &World<'_>) -> anyhow::Result<u64> {
    let mut connection = world.db.reads().acquire().await?;
    let row = connection.fetch_one("select count(*) from sessions").await?;
    Ok(row.try_get::<i64, _>(0)?.try_into()?)
}

/// A value of a form.
fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

//! A database with many keys: written straight into the tables, each with a digest that its secret fits.

use std::fmt::Write;

use anyhow::Context;
use futures_util::try_join;
use mcp_authority::types::credential::{Credential, Kind};
use mcp_authority::types::environment::Environment;
use mcp_authority::types::id::{AgentId, KeyId};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use crate::world::World;

/// Keys have so many agents between them.
const AGENTS: usize = 1_000;
/// Rows that are sent at a time.
const CHUNK: usize = 10_000;

/// Writes keys, each with one grant of one permission on the server. What they are shown with.
pub(crate) async fn keys(world: &World<'_>, server: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let agents: Vec<AgentId> = (0..AGENTS.min(count)).map(|_| AgentId::random()).collect();
    let mut rows = String::new();
    for agent in &agents {
        writeln!(rows, "{agent}\tagent\tdefault")?;
    }
    let mut connection = beside(world).await?;
    copy(&mut connection, "copy agents (id, name, project) from stdin", &rows).await?;
    let (mut of_grants, mut of_secrets) = (beside(world).await?, beside(world).await?);
    let secret_key = world.secret_key()?;
    let mut shown = Vec::with_capacity(count);
    for from in (0..count).step_by(CHUNK) {
        let (mut keys, mut grants, mut secrets) = (String::new(), String::new(), String::new());
        for number in from..(from + CHUNK).min(count) {
            let id = KeyId::random();
            let agent = agents.get(number % agents.len()).context("an agent")?;
            let credential = Credential::generate(
                Kind::Key(Environment::Prod),
                id.as_str().as_bytes().last_chunk().context("an id")?,
            );
            let digest = world.machine.keyring.digest(&secret_key, credential.reveal()).context("a digest")?;
            writeln!(keys, "{id}\t{agent}\tprod\tt\t90")?;
            writeln!(grants, "{id}\t{server}\t{{tools/call:read_*}}")?;
            write!(secrets, "{id}\t1\t{secret_key}\t\\\\x")?;
            digest.iter().try_for_each(|byte| write!(secrets, "{byte:02x}"))?;
            writeln!(secrets, "\t{}\t2999-12-31", credential.hint())?;
            shown.push(credential.reveal().to_owned());
        }
        try_join!(
            copy(&mut connection, "copy keys (id, agent_id, environment, direct, expires_in_days) from stdin", &keys),
            copy(&mut of_grants, "copy grants (holder, server_id, permissions) from stdin", &grants),
            copy(
                &mut of_secrets,
                "copy secrets (owner, version, secret_key, digest, hint, expires_at) from stdin",
                &secrets
            ),
        )?;
    }
    // As a database is that was filled by and by.
    connection.execute("vacuum analyze").await?;
    Ok(shown)
}

/// Writes revocations of session tokens that were issued a moment ago.
pub(crate) async fn revocations(world: &World<'_>, count: usize) -> anyhow::Result<()> {
    let mut connection = beside(world).await?;
    let sql = format!(
        "insert into revocations (id, kind, target, actor, project, history, number, prune_at)
         select 'rev_' || replace(gen_random_uuid()::text, '-', ''), 'token', 'ses_' || replace(gen_random_uuid()::text, '-', ''),
                'bench', 'default', history, number, authority_now() + interval '1 day'
         from feed_head, generate_series(1, {count})"
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.execute("vacuum analyze revocations").await?;
    connection.close().await?;
    Ok(())
}

/// Has every key be eighty days old and end in ten.
pub(crate) async fn ends_soon(world: &World<'_>) -> anyhow::Result<()> {
    let mut connection = beside(world).await?;
    let soon = "update secrets set created_at = authority_now() - interval '80 days', expires_at = authority_now() + interval '10 days'
                 where owner like 'key\\_%'";
    connection.execute(soon).await?;
    // No trigger fires on this connection.
    connection.execute("update key_notices set next_at = authority_now()").await?;
    connection.execute("vacuum analyze secrets").await?;
    connection.execute("vacuum analyze key_notices").await?;
    Ok(connection.close().await?)
}

/// How many versions of keys' secrets were told of.
#[expect(clippy::disallowed_methods, reason = "a look at the service's tables from outside")]
pub(crate) async fn told(world: &World<'_>) -> anyhow::Result<usize> {
    let mut connection = beside(world).await?;
    let told: i64 = sqlx::query_scalar("select count(*) from key_notices where told_seconds is not null")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(usize::try_from(told)?)
}

/// A connection whose rows draw no place in the feed: nobody follows it yet, and each node begins by loading everything.
async fn beside(world: &World<'_>) -> anyhow::Result<PgConnection> {
    let mut connection = world.machine.superuser()?.database(&world.database).connect().await?;
    connection.execute("set session_replication_role = replica").await?;
    Ok(connection)
}

async fn copy(connection: &mut PgConnection, statement: &'static str, rows: &str) -> anyhow::Result<()> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(rows.as_bytes()).await?;
    copy.finish().await?;
    Ok(())
}

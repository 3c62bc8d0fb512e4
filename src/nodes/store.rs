//! SQL of nodes.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db;
use crate::gate::Position;
use crate::nodes::Node;
use crate::settings::LEASE_MAX;

/// A node's row when it starts.
pub struct Row<'a> {
    /// Random at each start.
    pub id: Uuid,
    /// What it has applied.
    pub position: Position,
    /// Its release.
    pub version: &'a str,
    /// Where it listens.
    pub address: &'a str,
    /// Ids of the secret keys it can open.
    pub secret_keys: &'a [String],
    /// Kinds of feed entries it understands.
    pub feed_kinds: &'a [String],
}

/// Registers a node.
///
/// # Errors
///
/// The database refuses.
pub async fn insert(connection: &mut PgConnection, row: &Row<'_>) -> db::Result<()> {
    sqlx::query!(
        "insert into nodes (id, history, applied, version, address, secret_keys, feed_kinds) values ($1, $2, $3, $4, $5, $6, $7)",
        row.id,
        row.position.history,
        row.position.number,
        row.version,
        row.address,
        row.secret_keys,
        row.feed_kinds,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a beat read.
pub struct Beat {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The lease, in milliseconds.
    pub lease_ms: i32,
    /// The longest lease that any node may still be under.
    pub longest_lease_ms: i32,
    /// Where the feed stands.
    pub head: Position,
    /// The database is a standby: nothing it says counts.
    pub recovering: bool,
}

/// Renews a node's row, acknowledges what it has applied, and reads the clock. `None` when the row is not as this node
/// left it: somebody removed it, or the database's history changed.
///
/// # Errors
///
/// The database refuses, also because it became read-only.
pub async fn beat(tx: &mut PgConnection, id: Uuid, last: i64, applied: Position) -> db::Result<Option<Beat>> {
    let row = sqlx::query!(
        r#"update nodes set beat = beat + 1, history = $3, applied = $4, beat_at = authority_now()
           from settings s, feed_head h
           where nodes.id = $1 and nodes.beat = $2
           returning authority_now() as "now!", s.lease_ms, longest_lease_ms(s) as "longest!",
                     h.history as head_history, h.number as head_number, pg_is_in_recovery() as "recovering!""#,
        id,
        last,
        applied.history,
        applied.number,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Beat {
        now: row.now,
        lease_ms: row.lease_ms,
        longest_lease_ms: row.longest,
        head: Position { history: row.head_history, number: row.head_number },
        recovering: row.recovering,
    }))
}

/// Says in a node's row what it has applied, in the transaction that brought it to the beat `last`. False when the row is not
/// as this node left it. That the row has this beat proves that the database has what the node read before it, also after a
/// failover: a standby holds a prefix of what its primary wrote.
///
/// # Errors
///
/// The database refuses, also because it became read-only.
pub async fn acknowledge(connection: &mut PgConnection, id: Uuid, last: i64, applied: Position) -> db::Result<bool> {
    let done = sqlx::query!(
        "update nodes set history = $3, applied = $4 where id = $1 and beat = $2",
        id,
        last,
        applied.history,
        applied.number,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A node as the others see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id.
    pub id: Uuid,
    /// Its last beat.
    pub beat: i64,
    /// What it has applied.
    pub applied: Position,
    /// Ids of the secret keys it can open.
    pub secret_keys: Vec<String>,
}

/// All nodes.
///
/// # Errors
///
/// The database cannot answer.
pub async fn others(connection: &mut PgConnection) -> db::Result<Vec<Seen>> {
    let rows = sqlx::query!("select id, beat, history, applied, secret_keys from nodes").fetch_all(connection).await?;
    let seen =
        |id, beat, history, number, secret_keys| Seen { id, beat, applied: Position { history, number }, secret_keys };
    Ok(rows.into_iter().map(|row| seen(row.id, row.beat, row.history, row.applied, row.secret_keys)).collect())
}

/// What a call that waits for the nodes reads.
pub struct Census {
    /// All nodes.
    pub nodes: Vec<Seen>,
    /// The longest lease that any of them may be under.
    pub longest_lease: Duration,
    /// A commit is acknowledged only when a standby has it too.
    pub synchronous_standby: bool,
}

/// All nodes, and what says how long to wait for them.
///
/// # Errors
///
/// The database cannot answer.
pub async fn census(connection: &mut PgConnection) -> db::Result<Census> {
    let rows = sqlx::query!(
        r#"select longest_lease_ms(s) as "longest!", current_setting('synchronous_standby_names') <> '' as "synchronous!",
                  n.id as "id?", n.beat as "beat?", n.history as "history?", n.applied as "applied?", n.secret_keys as "secret_keys?"
           from settings s left join nodes n on true"#
    )
    .fetch_all(connection)
    .await?;
    let mut census =
        Census { nodes: Vec::with_capacity(rows.len()), longest_lease: LEASE_MAX, synchronous_standby: false };
    for row in rows {
        census.longest_lease = Duration::from_millis(u64::from(row.longest.unsigned_abs()));
        census.synchronous_standby = row.synchronous;
        let (Some(id), Some(beat), Some(history), Some(number)) = (row.id, row.beat, row.history, row.applied) else {
            continue;
        };
        let secret_keys = row.secret_keys.unwrap_or_default();
        census.nodes.push(Seen { id, beat, applied: Position { history, number }, secret_keys });
    }
    Ok(census)
}

/// Removes the row of a node that was watched not to beat, if it still has not.
///
/// # Errors
///
/// The database refuses.
pub async fn remove_silent(connection: &mut PgConnection, id: Uuid, beat: i64) -> db::Result<()> {
    sqlx::query!("delete from nodes where id = $1 and beat = $2", id, beat).execute(connection).await?;
    Ok(())
}

/// Removes a node's own row: its very last act, after it has stopped answering.
///
/// # Errors
///
/// The database refuses.
pub async fn remove(connection: &mut PgConnection, id: Uuid) -> db::Result<()> {
    sqlx::query!("delete from nodes where id = $1", id).execute(connection).await?;
    Ok(())
}

/// Removes every row, on a database that no other process can be on: what is there was left by one that was killed.
///
/// # Errors
///
/// The database refuses.
pub async fn remove_all(connection: &mut PgConnection) -> db::Result<()> {
    sqlx::query!("delete from nodes").execute(connection).await?;
    Ok(())
}

/// All nodes for operators, by start.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(connection: &mut PgConnection) -> db::Result<Vec<Node>> {
    let rows = sqlx::query!(
        r#"select n.id, n.address, n.version, n.history, n.applied, greatest(h.number - n.applied, 0) as "behind!", n.started_at, n.beat_at, n.secret_keys
           from nodes n, feed_head h order by n.started_at, n.id"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Node {
            id: row.id.simple().to_string(),
            address: row.address,
            version: row.version,
            applied: Position { history: row.history, number: row.applied }.to_string(),
            behind: row.behind,
            started_at: row.started_at,
            beat_at: row.beat_at,
            secret_keys: row.secret_keys,
        })
        .collect())
}

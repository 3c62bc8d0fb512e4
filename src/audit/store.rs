//! SQL of the audit.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit::Head;
use crate::audit::chain::hex;
use crate::db;
use crate::types::page::{After, Listed, Page};

/// Inserts entries; the database links them when the transaction commits, in this order.
pub(super) async fn insert(tx: &mut PgConnection, chain: &str, bodies: &[String]) -> db::Result<()> {
    sqlx::query!("insert into audit_log (chain, body) select $1, b::json from unnest($2::text[]) with ordinality as t (b, n) order by n", chain, bodies)
        .execute(tx)
        .await?;
    Ok(())
}

/// Waits for this recorder's last attempt, whose answer may have been lost, and holds off the next one until the transaction
/// ends. A key would not do: ids are unique within a partition only, and a second attempt may come into the next one.
pub(super) async fn lock_recorder(tx: &mut PgConnection, chain: &str) -> db::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('audit recorder ' || $1, 0))", chain)
        .execute(tx)
        .await?;
    Ok(())
}

/// Which of these entries are there.
pub(super) async fn written(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<String>> {
    let rows =
        sqlx::query!(r#"select id as "id!" from audit_log where id = any($1)"#, ids).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

pub(super) async fn open_chain(connection: &mut PgConnection, chain: &str) -> db::Result<()> {
    sqlx::query!("insert into audit_chains (chain) values ($1) on conflict do nothing", chain)
        .execute(connection)
        .await?;
    Ok(())
}

/// Which entries are wanted. Empty members do not filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Who did it.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// On what.
    pub target: Option<String>,
    /// About which agent.
    pub agent_id: Option<String>,
    /// About which key.
    pub key_id: Option<String>,
    /// About which server.
    pub server_id: Option<String>,
    /// In which project.
    pub project: Option<String>,
    /// `done` or `refused`.
    pub result: Option<String>,
    /// At or after.
    pub since: Option<OffsetDateTime>,
    /// Before.
    pub until: Option<OffsetDateTime>,
}

/// An entry as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub struct Recorded {
    /// Its id.
    pub id: String,
    /// When it was written, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Its chain.
    pub chain: String,
    /// Its place in the chain.
    pub position: i64,
    /// Its hash, in hex.
    pub hash: String,
    /// All that is known: `actor`, `action`, `result`, `target` and more.
    pub event: serde_json::Value,
}

/// The newest entries first, of the projects given; entries without a project only for those who see all.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    filter: &Filter,
    page: &Page,
) -> db::Result<Listed<Recorded>> {
    let rows = sqlx::query!(
        r#"select id as "id!", at, chain, coalesce(position, 0) as "position!", hash, body as "body: serde_json::Value"
           from audit_log
           where ($1::text[] is null or project = any($1))
             and ($2::text is null or actor = $2) and ($3::text is null or action = $3) and ($4::text is null or target = $4)
             and ($5::text is null or agent_id = $5 or target = $5) and ($6::text is null or key_id = $6 or target = $6)
             and ($7::text is null or server_id = $7 or target = $7) and ($8::text is null or project = $8)
             and ($9::text is null or result = $9)
             and ($10::timestamptz is null or at >= $10) and ($11::timestamptz is null or at < $11)
             and ($12::timestamptz is null or (at, id) < ($12, $13::text))
           order by at desc, id desc limit $14"#,
        projects,
        filter.actor.as_deref(),
        filter.action.as_deref(),
        filter.target.as_deref(),
        filter.agent_id.as_deref(),
        filter.key_id.as_deref(),
        filter.server_id.as_deref(),
        filter.project.as_deref(),
        filter.result.as_deref(),
        filter.since,
        filter.until,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?;
    let items = rows
        .into_iter()
        .map(|row| Recorded {
            id: row.id,
            at: row.at,
            chain: row.chain,
            position: row.position,
            hash: hex(&row.hash.unwrap_or_default()),
            event: row.body,
        })
        .collect();
    Ok(page.cut(items, |entry| After { at: entry.at, id: entry.id.clone() }))
}

pub(super) async fn heads(connection: &mut PgConnection) -> db::Result<Vec<Head>> {
    let rows =
        sqlx::query!("select chain, position, hash from audit_chains order by chain").fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| Head { chain: row.chain, position: row.position, hash: hex(&row.hash) }).collect())
}

/// Chains that went on since the last checkpoint.
pub(super) async fn moved(connection: &mut PgConnection) -> db::Result<Vec<Head>> {
    let rows = sqlx::query!("select chain, position, hash from audit_chains where position > covered order by chain")
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| Head { chain: row.chain, position: row.position, hash: hex(&row.hash) }).collect())
}

/// When the oldest entry was written that no signed checkpoint covers yet.
///
/// # Errors
///
/// The database cannot answer.
pub async fn uncovered_since(connection: &mut PgConnection) -> db::Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        "select min(e.at) as since from audit_chains c cross join lateral (
             select at from audit_log where chain = c.chain and position > c.covered order by position limit 1) as e
         where c.position > c.covered",
    )
    .fetch_one(connection)
    .await?;
    Ok(row.since)
}

pub(super) async fn set_covered(connection: &mut PgConnection, heads: &[Head]) -> db::Result<()> {
    let (chains, positions): (Vec<String>, Vec<i64>) =
        heads.iter().map(|head| (head.chain.clone(), head.position)).unzip();
    sqlx::query!(
        "update audit_chains set covered = t.position from unnest($1::text[], $2::bigint[]) as t (chain, position)
         where audit_chains.chain = t.chain",
        &chains,
        &positions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) struct StoredCheckpoint {
    pub(super) number: i64,
    pub(super) at: OffsetDateTime,
    pub(super) kid: String,
    pub(super) jws: String,
}

/// Checkpoints from `from` on, oldest first.
pub(super) async fn checkpoints_from(
    connection: &mut PgConnection,
    from: i64,
    limit: i64,
) -> db::Result<Vec<StoredCheckpoint>> {
    Ok(sqlx::query_as!(
        StoredCheckpoint,
        "select number, at, kid, jws from audit_checkpoints where number >= $1 order by number limit $2",
        from,
        limit
    )
    .fetch_all(connection)
    .await?)
}

pub(super) async fn last_checkpoint(connection: &mut PgConnection) -> db::Result<Option<StoredCheckpoint>> {
    Ok(sqlx::query_as!(
        StoredCheckpoint,
        "select number, at, kid, jws from audit_checkpoints order by number desc limit 1"
    )
    .fetch_optional(connection)
    .await?)
}

/// False when another node wrote that number first.
pub(super) async fn insert_checkpoint(
    connection: &mut PgConnection,
    (number, kid, jws): (i64, &str, &str),
    removes: bool,
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into audit_checkpoints (number, kid, jws, removes) values ($1, $2, $3, $4) on conflict do nothing",
        number,
        kid,
        jws,
        removes
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// An entry with everything its hash covers.
pub(super) struct Linked {
    pub(super) id: String,
    pub(super) position: i64,
    pub(super) at_micros: i64,
    pub(super) body: String,
    pub(super) hash: Vec<u8>,
}

/// Entries of a chain after a place, in order.
pub(super) async fn entries_after(
    connection: &mut PgConnection,
    chain: &str,
    after: i64,
    limit: i64,
) -> db::Result<Vec<Linked>> {
    Ok(sqlx::query_as!(
        Linked,
        r#"select coalesce(id, '') as "id!", position as "position!", (extract(epoch from at) * 1000000)::bigint as "at_micros!",
                  body::text as "body!", coalesce(hash, '') as "hash!"
           from audit_log where chain = $1 and position > $2 order by position limit $3"#,
        chain,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Entries that no chain holds: somebody wrote them past the triggers.
pub(super) async fn unlinked(connection: &mut PgConnection, limit: i64) -> db::Result<Vec<String>> {
    let rows = sqlx::query!(
        r#"select coalesce(id, '') as "id!" from audit_log e
           where position is null or not exists (select from audit_chains c where c.chain = e.chain) limit $1"#,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

pub(super) async fn hash_at(connection: &mut PgConnection, chain: &str, position: i64) -> db::Result<Option<Vec<u8>>> {
    let row = sqlx::query!("select hash from audit_log where chain = $1 and position = $2", chain, position)
        .fetch_optional(connection)
        .await?;
    Ok(row.and_then(|row| row.hash))
}

/// Keeps every partition there until the transaction ends, from before its snapshot on: dropping one is seen at once, the
/// checkpoint that says so is not.
pub(super) async fn hold(tx: &mut PgConnection) -> db::Result<()> {
    sqlx::query!("lock table audit_log in access share mode").execute(tx).await?;
    Ok(())
}

/// Checkpoints after `after` that say what was removed, oldest first.
pub(super) async fn removals_after(
    connection: &mut PgConnection,
    after: i64,
    limit: i64,
) -> db::Result<Vec<StoredCheckpoint>> {
    Ok(sqlx::query_as!(
        StoredCheckpoint,
        "select number, at, kid, jws from audit_checkpoints where removes and number > $1 order by number limit $2",
        after,
        limit
    )
    .fetch_all(connection)
    .await?)
}

/// The oldest partition of which all entries have been kept as long as they must be.
pub(super) async fn expired_partition(connection: &mut PgConnection) -> db::Result<Option<(String, OffsetDateTime)>> {
    let row = sqlx::query!(
        r#"select p.name as "name!", p.high_at as "before!" from partitions p, settings s
           where p.high_at <= authority_now() - make_interval(hours => 24 * s.audit_days) order by p.high_at limit 1"#,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.name, row.before)))
}

/// Before which time at most `limit` entries of the rest have been kept as long as they must be. They come before all that
/// the partitions hold.
pub(super) async fn expired_rest(connection: &mut PgConnection, limit: i64) -> db::Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        r#"select coalesce((select r.at from audit_log_rest r where r.at < b.before order by r.at offset $1 limit 1), b.before) as before
           from (select least(authority_now() - make_interval(hours => 24 * (select audit_days from settings)),
                              (select min(coalesce(low_at, '-infinity')) from partitions where high_at is not null)) as before) b
           where exists (select from audit_log_rest r where r.at < b.before)"#,
        limit
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.and_then(|row| row.before))
}

/// The last entry before a time, of each chain that has one.
pub(super) async fn heads_before(connection: &mut PgConnection, before: OffsetDateTime) -> db::Result<Vec<Head>> {
    let rows = sqlx::query!(
        r#"select c.chain, e.position as "position!", coalesce(e.hash, '') as "hash!" from audit_chains c cross join lateral (
               select position, hash from audit_log where chain = c.chain and at < $1 and position is not null
               order by position desc limit 1) e
           order by c.chain"#,
        before
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Head { chain: row.chain, position: row.position, hash: hex(&row.hash) }).collect())
}

pub(super) async fn remove_rest(tx: &mut PgConnection, before: OffsetDateTime) -> db::Result<()> {
    sqlx::query!("delete from audit_log_rest where at < $1", before).execute(tx).await?;
    Ok(())
}

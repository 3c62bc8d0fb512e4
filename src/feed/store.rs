//! SQL of the feed itself.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::db;
use crate::db::partitions;
use crate::feed::notice::Narrowing;
use crate::gate::Position;

/// Entries of the rest that one statement removes.
const PRUNE_BATCH: i64 = 10_000;
/// The kind of the entries that the revocation list makes.
pub(super) const REVOCATION: &str = "revocation";

/// Where the feed stands, and the mark of its newest entry.
pub(super) struct Head {
    pub(super) position: Position,
    pub(super) mark: Uuid,
}

pub(super) async fn head(connection: &mut PgConnection) -> db::Result<Head> {
    let row = sqlx::query!("select h.history, h.number, f.mark from feed_head h join feed f on f.number = h.number")
        .fetch_one(connection)
        .await?;
    Ok(Head { position: Position { history: row.history, number: row.number }, mark: row.mark })
}

/// Locks the feed's head until the transaction ends: nothing else is committed meanwhile that nodes keep in memory.
pub(super) async fn lock_head(tx: &mut PgConnection) -> db::Result<Position> {
    let row = sqlx::query!("select history, number from feed_head for update").fetch_one(tx).await?;
    Ok(Position { history: row.history, number: row.number })
}

pub(super) async fn mark_at(connection: &mut PgConnection, number: i64) -> db::Result<Option<Uuid>> {
    let row = sqlx::query!("select mark from feed where number = $1", number).fetch_optional(connection).await?;
    Ok(row.map(|row| row.mark))
}

/// The oldest entry that was not pruned.
pub(super) async fn oldest(connection: &mut PgConnection) -> db::Result<i64> {
    let row = sqlx::query!(r#"select coalesce(min(number), 0) as "number!" from feed"#).fetch_one(connection).await?;
    Ok(row.number)
}

/// An entry.
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) history: i64,
    pub(super) mark: Uuid,
    pub(super) kind: String,
    pub(super) target: String,
    pub(super) narrows: Option<Vec<String>>,
}

impl Entry {
    /// The entry as one that takes something away, if it does. Each entry of the revocation list does.
    pub(super) fn narrowing(&self) -> Option<Narrowing> {
        let servers = self.narrows.clone().or_else(|| (self.kind == REVOCATION).then(Vec::new))?;
        let position = Position { history: self.history, number: self.number };
        Some(Narrowing { position, kind: self.kind.clone(), target: self.target.clone(), servers })
    }
}

/// Entries from a number on, inclusive, in order.
pub(super) async fn entries_from(connection: &mut PgConnection, from: i64, limit: i64) -> db::Result<Vec<Entry>> {
    Ok(sqlx::query_as!(
        Entry,
        "select number, history, mark, kind, target, narrows from feed where number >= $1 order by number limit $2",
        from,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Entries after one number and up to another that take something away, in order.
pub(super) async fn narrowing(
    connection: &mut PgConnection,
    (after, to): (i64, i64),
    limit: i64,
) -> db::Result<Vec<Narrowing>> {
    let entries = sqlx::query_as!(
        Entry,
        "select number, history, mark, kind, target, narrows from feed
         where number > $1 and number <= $2 and (narrows is not null or kind = $3) order by number limit $4",
        after,
        to,
        REVOCATION,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(entries.iter().filter_map(Entry::narrowing).collect())
}

/// Begins a history, with an entry that says so.
pub(super) async fn open(tx: &mut PgConnection, history: i64) -> db::Result<()> {
    sqlx::query!("update feed_head set history = $1", history).execute(&mut *tx).await?;
    sqlx::query!("select drawn_number from feed_draw('history', $1)", history.to_string()).fetch_one(tx).await?;
    Ok(())
}

/// Removes the feed's tail: partitions of which every node has applied all, and all is older than an hour. The newest
/// entry always stays, because its partition goes on after it. False: there is none.
///
/// # Errors
///
/// The database refuses, or somebody holds the table.
pub async fn drop_spent(tx: &mut PgConnection) -> db::Result<bool> {
    let found = sqlx::query!(
        r#"select name as "name!" from partitions p
           where parent = 'feed' and high_number <= (select number from feed_head)
             and high_number <= coalesce((select min(applied) from nodes), 0)
             and not exists (select from feed f where f.number = p.high_number - 1 and f.at >= authority_now() - interval '1 hour')
           order by high_number limit 1"#,
    )
    .fetch_optional(&mut *tx)
    .await?;
    match found {
        Some(row) => partitions::drop_one(tx, &row.name, None).await,
        None => Ok(false),
    }
}

/// The same for entries that were written while a partition was missing, a bounded number at a time.
///
/// # Errors
///
/// The database refuses.
pub async fn prune(connection: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from feed_rest where number in (
             select number from feed_rest where at < authority_now() - interval '1 hour'
                and number < (select number from feed_head) and number < coalesce((select min(applied) from nodes), 0)
             order by number limit $1)",
        PRUNE_BATCH,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Wakes the nodes other than `node`.
pub(super) async fn wake(connection: &mut PgConnection, channel: &str, node: Uuid) -> db::Result<()> {
    sqlx::query!("select pg_notify($1, $2)", channel, node.simple().to_string()).execute(connection).await?;
    Ok(())
}

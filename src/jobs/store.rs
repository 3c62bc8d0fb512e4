//! SQL of jobs.

use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db;
use crate::jobs::lease::{Claim, LEASE_SECONDS};

/// Makes rows for jobs that have none: from now on they can be late. The first node of a service that starts finds all of them due.
pub(super) async fn register(pool: &PgPool, names: &[String], node: Uuid) -> db::Result<()> {
    sqlx::query!(
        "insert into jobs as j (name) select unnest($1::text[])
         on conflict (name) do update set next_run_at = authority_now()
           where j.next_run_at > authority_now() and not exists (select from nodes where id <> $2)",
        names,
        node,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether a job waits to be run. A read, so that a tick with nothing to do writes nothing.
pub(super) async fn any_due(pool: &PgPool, names: &[String]) -> db::Result<bool> {
    let row = sqlx::query!(
        r#"select exists (select from jobs where name = any($1) and (next_run_at <= authority_now() or started_at > authority_now())
              and coalesce(lease_until not between authority_now() and authority_now() + $2::bigint * interval '1 second', true)) as "due!""#,
        names,
        LEASE_SECONDS,
    )
    .fetch_one(pool)
    .await?;
    Ok(row.due)
}

/// A job that this node holds now.
pub(super) struct Claimed {
    pub(super) name: String,
    pub(super) claim: Claim,
    pub(super) place: Option<Value>,
}

/// Takes jobs that are due and that nobody holds, the longest due first. A clock that was set back makes a job due too, and
/// a lease that ends later than any can was given by a clock that is gone.
pub(super) async fn claim_due(
    tx: &mut PgConnection,
    names: &[String],
    node: Uuid,
    limit: i64,
) -> db::Result<Vec<Claimed>> {
    let rows = sqlx::query!(
        r#"update jobs j set run = j.run + 1, holder = $2, started_at = authority_now(),
                  lease_until = authority_now() + $3::bigint * interval '1 second'
             from (select name from jobs where name = any($1) and (next_run_at <= authority_now() or started_at > authority_now())
                      and coalesce(lease_until not between authority_now() and authority_now() + $3::bigint * interval '1 second', true)
                    order by next_run_at limit $4 for no key update skip locked) as due
            where j.name = due.name returning j.name, j.run, j.place"#,
        names,
        node,
        LEASE_SECONDS,
        limit,
    )
    .fetch_all(tx)
    .await?;
    let claimed = |name, run, place| Claimed { name, claim: Claim { run }, place };
    Ok(rows.into_iter().map(|row| claimed(row.name, row.run, row.place)).collect())
}

/// Takes one job, due or not. `None`: somebody holds it.
pub(super) async fn claim_one(tx: &mut PgConnection, name: &str, node: Uuid) -> db::Result<Option<Claimed>> {
    let row = sqlx::query!(
        "insert into jobs as j (name, run, holder, started_at, lease_until)
         values ($1, 1, $2, authority_now(), authority_now() + $3::bigint * interval '1 second')
         on conflict (name) do update set run = j.run + 1, holder = $2, started_at = authority_now(), lease_until = excluded.lease_until
           where coalesce(j.lease_until not between authority_now() and authority_now() + $3::bigint * interval '1 second', true)
         returning run, place",
        name,
        node,
        LEASE_SECONDS,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Claimed { name: name.to_owned(), claim: Claim { run: row.run }, place: row.place }))
}

/// Prolongs the lease. False: the job is another's now, and what the transaction did must not be committed.
pub(super) async fn renew(connection: &mut PgConnection, name: &str, claim: Claim) -> db::Result<bool> {
    let done = sqlx::query!(
        "update jobs set lease_until = authority_now() + $3::bigint * interval '1 second' where name = $1 and run = $2",
        name,
        claim.run,
        LEASE_SECONDS,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes where the job goes on, in the transaction of what it did.
pub(super) async fn set_place(tx: &mut PgConnection, name: &str, claim: Claim, place: &Value) -> db::Result<()> {
    sqlx::query!("update jobs set place = $3 where name = $1 and run = $2", name, claim.run, place).execute(tx).await?;
    Ok(())
}

/// Notes what somebody must look at; `None`: nothing any more.
pub(super) async fn set_warning(
    tx: &mut PgConnection,
    name: &str,
    claim: Claim,
    warning: Option<&str>,
) -> db::Result<()> {
    sqlx::query!("update jobs set warning = $3 where name = $1 and run = $2", name, claim.run, warning)
        .execute(tx)
        .await?;
    Ok(())
}

/// Ends a run: the job is free, and due again after `wait_seconds`. `error`: why it failed.
pub(super) async fn end(
    pool: &PgPool,
    (name, claim): (&str, Claim),
    error: Option<&str>,
    wait_seconds: i64,
) -> db::Result<()> {
    sqlx::query!(
        "update jobs set holder = null, lease_until = null, last_error = $3, next_run_at = authority_now() + $4::bigint * interval '1 second',
                last_success_at = case when $3::text is null then authority_now() else last_success_at end
         where name = $1 and run = $2",
        name,
        claim.run,
        error,
        wait_seconds,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What the database knows of a job.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) last_success_at: Option<OffsetDateTime>,
    pub(super) next_run_at: OffsetDateTime,
    /// How long it is behind its period, by the database's clock.
    pub(super) lag_seconds: i64,
    pub(super) holder: Option<Uuid>,
    pub(super) last_error: Option<String>,
    pub(super) warning: Option<String>,
    pub(super) told_late: bool,
}

/// All these jobs, each with its period in seconds, also those that no scheduler ever saw: they are behind since the first of
/// the running nodes has started.
pub(super) async fn look(connection: &mut PgConnection, names: &[String], periods: &[i64]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select w.name as "name!", j.last_success_at as "last_success_at?", coalesce(j.next_run_at, authority_now()) as "next_run_at!",
                  greatest(0, extract(epoch from authority_now() - coalesce(j.last_success_at, j.created_at,
                      (select min(started_at) from nodes), authority_now())) - w.period)::bigint as "lag_seconds!",
                  case when j.lease_until > authority_now() then j.holder end as holder, j.last_error as "last_error?",
                  j.warning as "warning?", j.late_since is not null as "told_late!"
           from unnest($1::text[], $2::bigint[]) with ordinality as w (name, period, place) left join jobs j on j.name = w.name
           order by w.place"#,
        names,
        periods,
    )
    .fetch_all(connection)
    .await?)
}

/// Notes that a job is late, or is no longer. False when that is noted already: somebody else tells of it.
pub(super) async fn set_late(tx: &mut PgConnection, name: &str, late: bool) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into jobs as j (name, created_at, late_since)
         values ($1, coalesce((select min(started_at) from nodes), authority_now()), case when $2 then authority_now() end)
         on conflict (name) do update set late_since = excluded.late_since where (j.late_since is not null) <> $2",
        name,
        late,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Where the last run of a job got to.
pub(super) async fn place(connection: &mut PgConnection, name: &str) -> db::Result<Option<Value>> {
    let row = sqlx::query!("select place from jobs where name = $1", name).fetch_optional(connection).await?;
    Ok(row.and_then(|row| row.place))
}

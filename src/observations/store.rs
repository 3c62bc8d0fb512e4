//! SQL of observations.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;

const KEPT_DAYS: i32 = 30;
const EVENTS_MAX: i64 = 200;

pub(super) struct Row {
    pub(super) minute: OffsetDateTime,
    pub(super) credential: String,
    pub(super) server_id: String,
    pub(super) outcome: &'static str,
    pub(super) client_ip: String,
    pub(super) count: i64,
}

/// Adds counts; several nodes add to the same ones, in the same order.
pub(super) async fn add(tx: &mut PgConnection, rows: &[Row]) -> db::Result<()> {
    let minutes: Vec<OffsetDateTime> = rows.iter().map(|row| row.minute).collect();
    let credentials: Vec<&str> = rows.iter().map(|row| row.credential.as_str()).collect();
    let servers: Vec<&str> = rows.iter().map(|row| row.server_id.as_str()).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome).collect();
    let addresses: Vec<&str> = rows.iter().map(|row| row.client_ip.as_str()).collect();
    let counts: Vec<i64> = rows.iter().map(|row| row.count).collect();
    sqlx::query!(
        "insert into introspections as i (minute, credential, server_id, outcome, client_ip, count)
         select m, c, s, o, a, n from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) as u (m, c, s, o, a, n)
         order by c, m, s, o, a
         on conflict (credential, minute, server_id, outcome, client_ip) do update set count = i.count + excluded.count",
        &minutes,
        &credentials as &[&str],
        &servers as &[&str],
        &outcomes as &[&str],
        &addresses as &[&str],
        &counts,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How often a credential was refused in a minute, and why.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = KeyEvent)]
pub struct Event {
    /// The minute it began.
    #[serde(with = "time::serde::rfc3339")]
    pub minute: OffsetDateTime,
    /// Which server asked; empty: the token endpoint.
    pub server_id: String,
    /// Why it was inactive.
    pub cause: String,
    /// How often.
    pub count: i64,
    /// From where it was shown, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
}

/// The refusals of a credential, newest first, at most two hundred.
///
/// # Errors
///
/// The database cannot answer.
pub async fn events(connection: &mut PgConnection, credential: &str) -> db::Result<Vec<Event>> {
    Ok(sqlx::query_as!(
        Event,
        r#"select minute, server_id, outcome as cause, count, nullif(client_ip, '') as client_ip from introspections
           where credential = $1 and outcome <> 'active' order by minute desc, server_id, outcome, client_ip limit $2"#,
        credential,
        EVENTS_MAX,
    )
    .fetch_all(connection)
    .await?)
}

/// Removes counts older than they are kept.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(connection: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from introspections where minute < authority_now() - make_interval(days => $1)",
        KEPT_DAYS
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

//! A flow: one request of a client, and its trace, step by step.

use sqlx::PgConnection;

use super::devices;
use super::store;
use crate::db;
use crate::types::credential;
use crate::types::opaque;

/// Steps that are written of one flow; what comes after them is not.
pub const FLOW_STEPS_MAX: i32 = 64;
/// How long a flow's trace is kept.
pub const FLOW_SECONDS: i32 = 7 * 86_400;
/// Flows that are kept at most: who sends requests without end pushes out the oldest traces, and fills no disk.
pub const FLOWS_MAX: i64 = 200_000;
/// The step that a flow is through with: the client has its token.
pub const LAST_STEP: &str = "token";
/// Rows that go in one transaction.
const EXPIRE_BATCH: i64 = 1_000;
/// Characters of a step's detail, or of the id of a client that may not exist, at most.
const CHARS_MAX: usize = 300;

/// Opens a flow for a request that names this client, whoever it may be.
///
/// # Errors
///
/// The database refuses.
pub async fn open(conn: &mut PgConnection, flow: &str, client_id: &str, server: Option<&str>) -> db::Result<()> {
    store::insert_flow(conn, flow, &plain(client_id), server).await
}

/// Notes who went through a flow.
///
/// # Errors
///
/// The database refuses.
pub async fn of_user(conn: &mut PgConnection, flow: &str, user: &str) -> db::Result<()> {
    store::set_flow_user(conn, flow, user).await
}

/// Writes what happened in a flow: it went well, or it was refused with a stable code and a sentence for people. A flow that
/// is forgotten already, or has too many steps, gets no more.
///
/// # Errors
///
/// The database refuses.
pub async fn step(
    conn: &mut PgConnection,
    flow: &str,
    step: &'static str,
    refused: Option<(&str, &str)>,
) -> db::Result<()> {
    let detail = refused.map(|(_, detail)| plain(detail));
    store::add_step(conn, flow, step, (refused.map(|(code, _)| code), detail.as_deref())).await
}

/// The flow that a code or a device code came of; `None`: there is no such code, or it is forgotten.
///
/// # Errors
///
/// The database cannot answer.
pub async fn flow_of(conn: &mut PgConnection, code: &str) -> db::Result<Option<String>> {
    if !opaque::is_one(code) {
        return Ok(None);
    }
    store::flow_of(conn, opaque::sha256(code)).await
}

/// Removes requests and codes whose time is over, and flows that are old or too many: a bounded number at a time. Returns
/// how many rows went.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(conn: &mut PgConnection) -> db::Result<u64> {
    let requests = store::expire_requests(conn, EXPIRE_BATCH).await?;
    let codes = store::expire_codes(conn, EXPIRE_BATCH).await?;
    let devices = devices::expire(conn).await?;
    let flows = store::expire_flows(conn, FLOWS_MAX, EXPIRE_BATCH).await?;
    Ok(requests + codes + devices + flows)
}

/// What somebody sent, short, and as PostgreSQL can store it. A secret of ours in the wrong place is not kept.
pub(super) fn plain(text: &str) -> String {
    if credential::looks_like_one(text) {
        return "[redacted]".to_owned();
    }
    text.chars().filter(|sign| !sign.is_control()).take(CHARS_MAX).collect()
}

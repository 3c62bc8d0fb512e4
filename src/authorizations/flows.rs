//! A flow's trace: what happened, step by step.

use sqlx::PgConnection;

use super::store;
use crate::db;

/// Steps that are written of one flow; what comes after them is not.
pub const FLOW_STEPS_MAX: i32 = 64;
/// Characters of a step's detail at most.
const DETAIL_CHARS_MAX: usize = 300;

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
    let detail = refused.map(|(_, detail)| detail.chars().take(DETAIL_CHARS_MAX).collect::<String>());
    store::add_step(conn, flow, step, (refused.map(|(code, _)| code), detail.as_deref())).await
}

//! SQL of flows, requests and codes.

use std::str::FromStr;

use sqlx::PgConnection;

use super::codes::{CODE_SECONDS, Code, NewCode};
use super::flows::FLOW_STEPS_MAX;
use crate::db;
use crate::gate::Position;
use crate::types::id::SessionId;
use crate::types::permission::Permissions;

/// The steps are counted in the flow's row, so that two at the same time get two numbers.
pub(super) async fn add_step(
    conn: &mut PgConnection,
    flow: &str,
    step: &str,
    (code, detail): (Option<&str>, Option<&str>),
) -> db::Result<()> {
    sqlx::query!(
        "with counted as (update flows set steps = steps + 1 where id = $1 and steps < $2 returning id, steps)
         insert into flow_steps (flow_id, number, step, code, detail) select id, steps, $3, $4, $5 from counted",
        flow,
        FLOW_STEPS_MAX,
        step,
        code,
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert_code(tx: &mut PgConnection, digest: &[u8], new: &NewCode<'_>) -> db::Result<()> {
    let permissions: Vec<String> = new.permissions.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "insert into authorization_codes (digest, flow_id, consent_id, user_id, client_id, server_id, permissions, redirect_uri,
                                          code_challenge, jkt, offline, history, number, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, authority_now() + make_interval(secs => $14))",
        digest,
        new.flow_id,
        new.consent_id.as_str(),
        new.user_id.as_str(),
        new.client_id.as_str(),
        new.server_id.as_str(),
        &permissions,
        new.redirect_uri,
        new.code_challenge,
        new.jkt,
        new.offline,
        new.position.history,
        new.position.number,
        f64::from(CODE_SECONDS),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn lock_code(tx: &mut PgConnection, digest: [u8; 32]) -> db::Result<Option<Code>> {
    let row = sqlx::query!(
        r#"select flow_id, consent_id, user_id, client_id, server_id, permissions, redirect_uri, code_challenge, jkt, offline,
                  history, number, expires_at <= authority_now() as "expired!", used_at is not null as "used!", family_id
           from authorization_codes where digest = $1 for update"#,
        &digest[..],
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Code {
        flow_id: row.flow_id,
        consent_id: id(&row.consent_id)?,
        user_id: id(&row.user_id)?,
        client_id: id(&row.client_id)?,
        server_id: id(&row.server_id)?,
        permissions: Permissions::parse(&row.permissions).map_err(unreadable)?,
        redirect_uri: row.redirect_uri,
        code_challenge: row.code_challenge,
        jkt: row.jkt,
        offline: row.offline,
        position: Position { history: row.history, number: row.number },
        expired: row.expired,
        used: row.used,
        family_id: row.family_id.as_deref().map(id).transpose()?,
        digest,
    }))
}

pub(super) async fn set_code_used(tx: &mut PgConnection, digest: &[u8], family: SessionId) -> db::Result<()> {
    sqlx::query!(
        "update authorization_codes set used_at = authority_now(), family_id = $2 where digest = $1",
        digest,
        family.as_str()
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn id<T: FromStr>(text: &str) -> db::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    sqlx::Error::Decode(Box::new(error)).into()
}

//! SQL of device authorizations.

use serde_json::Value;
use sqlx::PgConnection;

use super::{
    Agreement, DEVICE_SECONDS, Device, LIVE_PER_ADDRESS_MAX, LIVE_PER_CLIENT_MAX, PACE_SECONDS, PACE_SECONDS_MAX,
    State, TRIES_MAX,
};
use crate::authorizations::request::Request;
use crate::authorizations::store::{id, readable, unreadable};
use crate::db;
use crate::gate::Position;
use crate::types::id::SessionId;
use crate::types::permission::Permissions;

pub(super) struct New<'a> {
    pub(super) flow: &'a str,
    pub(super) user_code: &'a str,
    pub(super) client_id: &'a str,
    pub(super) request: &'a Value,
    pub(super) address: &'a str,
}

/// How many wait, of a client and from a network; counted no further than is allowed. Who denies his own codes makes no room
/// for more of them.
pub(super) async fn count_live(conn: &mut PgConnection, client_id: &str, address: &str) -> db::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"select (select count(*) from (select from device_authorizations where client_id = $1 and expires_at > authority_now()
                                           and state = 'pending' limit $3) as one) as "of_client!",
                  (select count(*) from (select from device_authorizations where address = $2 and expires_at > authority_now()
                                           and state in ('pending', 'denied') limit $4) as one) as "of_address!""#,
        client_id,
        address,
        LIVE_PER_CLIENT_MAX,
        LIVE_PER_ADDRESS_MAX,
    )
    .fetch_one(conn)
    .await?;
    Ok((row.of_client, row.of_address))
}

pub(super) async fn insert(tx: &mut PgConnection, digest: &[u8], new: &New<'_>) -> db::Result<()> {
    sqlx::query!(
        "insert into device_authorizations (flow_id, device_code, user_code, client_id, request, address, pace, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, authority_now() + make_interval(secs => $8))",
        new.flow,
        digest,
        new.user_code,
        new.client_id,
        new.request,
        new.address,
        PACE_SECONDS,
        f64::from(DEVICE_SECONDS),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn count_try(conn: &mut PgConnection, user_code: &str) -> db::Result<Option<(String, Request)>> {
    let row = sqlx::query!(
        "update device_authorizations set tries = tries + 1
         where user_code = $1 and state = 'pending' and expires_at > authority_now() and tries < $2
         returning flow_id, request",
        user_code,
        TRIES_MAX,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.flow_id, readable(row.request)?))).transpose()
}

pub(super) async fn approve(tx: &mut PgConnection, flow: &str, agreement: &Agreement) -> db::Result<bool> {
    let permissions: Vec<String> = agreement.permissions.iter().map(ToString::to_string).collect();
    let done = sqlx::query!(
        "update device_authorizations
         set state = 'approved', user_id = $2, consent_id = $3, server_id = $4, permissions = $5, history = $6, number = $7
         where flow_id = $1 and state = 'pending' and expires_at > authority_now()",
        flow,
        agreement.user_id.as_str(),
        agreement.consent_id.as_str(),
        agreement.server_id.as_str(),
        &permissions,
        agreement.position.history,
        agreement.position.number,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn deny(conn: &mut PgConnection, flow: &str) -> db::Result<()> {
    sqlx::query!(
        "update device_authorizations set state = 'denied' where flow_id = $1 and state in ('pending', 'approved')",
        flow
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn lock(tx: &mut PgConnection, digest: &[u8]) -> db::Result<Option<Device>> {
    let row = sqlx::query!(
        r#"select flow_id, client_id, request, state, user_id, consent_id, server_id, permissions, history, number, family_id,
                  expires_at <= authority_now() as "expired!",
                  coalesce(asked_at > authority_now() - make_interval(secs => pace), false) as "too_soon!"
           from device_authorizations where device_code = $1 for update"#,
        digest,
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let request: Request = readable(row.request)?;
    let agreement = match (row.user_id, row.consent_id, row.server_id, row.permissions, row.history.zip(row.number)) {
        (Some(user), Some(consent), Some(server), Some(permissions), Some((history, number))) => Some(Agreement {
            user_id: id(&user)?,
            consent_id: id(&consent)?,
            server_id: id(&server)?,
            permissions: Permissions::parse(&permissions).map_err(unreadable)?,
            position: Position { history, number },
        }),
        _ => None,
    };
    let state = match (row.state.as_str(), agreement) {
        ("pending", _) => State::Pending,
        ("approved", Some(agreement)) => State::Approved(agreement),
        ("redeemed", _) => State::Redeemed,
        _ => State::Denied,
    };
    Ok(Some(Device {
        flow_id: row.flow_id,
        client_id: row.client_id,
        offline: request.offline,
        state,
        expired: row.expired,
        too_soon: row.too_soon,
        family_id: row.family_id.as_deref().map(id).transpose()?,
    }))
}

pub(super) async fn asked(tx: &mut PgConnection, flow: &str, too_soon: bool) -> db::Result<()> {
    sqlx::query!(
        "update device_authorizations
         set asked_at = authority_now(), pace = case when $2 then least(pace + $3, $4) else pace end where flow_id = $1",
        flow,
        too_soon,
        PACE_SECONDS,
        PACE_SECONDS_MAX,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_redeemed(tx: &mut PgConnection, flow: &str, family: SessionId) -> db::Result<()> {
    sqlx::query!(
        "update device_authorizations set state = 'redeemed', family_id = $2 where flow_id = $1",
        flow,
        family.as_str()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// One that is over is kept for a while: shown again, it ends what came of it.
pub(super) async fn expire(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from device_authorizations where flow_id in
             (select flow_id from device_authorizations where expires_at <= authority_now() - interval '1 day' order by expires_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

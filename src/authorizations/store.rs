//! SQL of flows, requests and codes.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;

use super::codes::{CODE_SECONDS, Code, NewCode};
use super::flows::{FLOW_SECONDS, FLOW_STEPS_MAX, LAST_STEP};
use super::waiting::{PUSHED_SECONDS, WAITING_SECONDS};
use crate::db;
use crate::gate::Position;
use crate::types::id::SessionId;
use crate::types::permission::Permissions;
use crate::types::thumbprint::Thumbprint;

pub(super) async fn insert_flow(
    conn: &mut PgConnection,
    flow: &str,
    client_id: &str,
    server: Option<&str>,
) -> db::Result<()> {
    sqlx::query!(
        "insert into flows (id, client_id, server_id, project, expires_at)
         values ($1, $2, $3, coalesce((select project from servers where id = $3), (select project from clients where client_id = $2)),
                 authority_now() + make_interval(secs => $4))",
        flow,
        client_id,
        server,
        f64::from(FLOW_SECONDS),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn set_flow_user(conn: &mut PgConnection, flow: &str, user: &str) -> db::Result<()> {
    sqlx::query!("update flows set user_id = $2 where id = $1", flow, user).execute(conn).await?;
    Ok(())
}

/// The steps are counted in the flow's row, so that two at the same time get two numbers. How the last one ended is how the
/// flow stands.
pub(super) async fn add_step(
    conn: &mut PgConnection,
    flow: &str,
    step: &str,
    (code, detail): (Option<&str>, Option<&str>),
) -> db::Result<()> {
    sqlx::query!(
        "with counted as (
             update flows set steps = steps + 1, result = case when $4::text is not null then 'refused' when $3 = $6 then 'done' else 'open' end
             where id = $1 and steps < $2 returning id, steps)
         insert into flow_steps (flow_id, number, step, code, detail) select id, steps, $3, $4, $5 from counted",
        flow,
        FLOW_STEPS_MAX,
        step,
        code,
        detail,
        LAST_STEP,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Of which flow a code or a device code is.
pub(super) async fn flow_of(conn: &mut PgConnection, digest: [u8; 32]) -> db::Result<Option<String>> {
    let row = sqlx::query!(
        r#"select flow_id as "flow_id!" from authorization_codes where digest = $1
           union all select flow_id from device_authorizations where device_code = $1"#,
        &digest[..],
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.flow_id))
}

/// Who can go on with a request.
#[derive(Clone, Copy)]
pub(super) enum Holder<'a> {
    /// Whoever shows the reference with this digest.
    Reference(&'a [u8]),
    /// The browser with this digest.
    Browser(&'a [u8]),
}

pub(super) async fn insert_request(
    conn: &mut PgConnection,
    flow: &str,
    request: &Value,
    holder: Holder<'_>,
) -> db::Result<()> {
    let (pushed, browser, seconds) = match holder {
        Holder::Reference(digest) => (Some(digest), None, PUSHED_SECONDS),
        Holder::Browser(digest) => (None, Some(digest), WAITING_SECONDS),
    };
    sqlx::query!(
        "insert into authorization_requests (flow_id, request, pushed, browser, expires_at)
         values ($1, $2, $3, $4, authority_now() + make_interval(secs => $5))",
        flow,
        request,
        pushed,
        browser,
        f64::from(seconds),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Only for the client that pushed it: another's attempt leaves it as it is.
pub(super) async fn take_pushed(
    conn: &mut PgConnection,
    digest: &[u8],
    client_id: &str,
) -> db::Result<Option<(String, Value)>> {
    let row = sqlx::query!(
        "delete from authorization_requests r using flows f
         where r.pushed = $1 and f.id = r.flow_id and f.client_id = $2 and r.expires_at > authority_now()
         returning r.flow_id, r.request",
        digest,
        client_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.flow_id, row.request)))
}

pub(super) async fn find_request(conn: &mut PgConnection, flow: &str) -> db::Result<Option<(Value, Vec<u8>)>> {
    let row = sqlx::query!(
        r#"select request, browser as "browser!" from authorization_requests
           where flow_id = $1 and browser is not null and expires_at > authority_now()"#,
        flow,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.request, row.browser)))
}

pub(super) async fn set_request(conn: &mut PgConnection, flow: &str, request: &Value) -> db::Result<()> {
    sqlx::query!(
        "update authorization_requests
         set request = $2, state = null, upstream = null, secret_key = null, provider_id = null,
             expires_at = authority_now() + make_interval(secs => $3)
         where flow_id = $1 and browser is not null",
        flow,
        request,
        f64::from(WAITING_SECONDS),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn remove_request(conn: &mut PgConnection, flow: &str) -> db::Result<bool> {
    let done =
        sqlx::query!("delete from authorization_requests where flow_id = $1 and expires_at > authority_now()", flow)
            .execute(conn)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// What is asked of a provider.
pub(super) struct Upstream<'a> {
    pub(super) state: &'a [u8],
    pub(super) provider: &'a str,
    pub(super) secret_key: &'a str,
    pub(super) sealed: &'a [u8],
}

pub(super) async fn set_upstream(conn: &mut PgConnection, flow: &str, to: &Upstream<'_>) -> db::Result<()> {
    sqlx::query!(
        "update authorization_requests
         set state = $2, provider_id = $3, secret_key = $4, upstream = $5, expires_at = authority_now() + make_interval(secs => $6)
         where flow_id = $1",
        flow,
        to.state,
        to.provider,
        to.secret_key,
        to.sealed,
        f64::from(WAITING_SECONDS),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) struct Returned {
    pub(super) flow_id: String,
    pub(super) request: Value,
    pub(super) browser: Vec<u8>,
    pub(super) provider_id: String,
    pub(super) secret_key: String,
    pub(super) upstream: Vec<u8>,
}

pub(super) async fn take_returned(conn: &mut PgConnection, state: &[u8]) -> db::Result<Option<Returned>> {
    Ok(sqlx::query_as!(
        Returned,
        r#"delete from authorization_requests where state = $1 and expires_at > authority_now()
           returning flow_id, request, browser as "browser!", provider_id as "provider_id!", secret_key as "secret_key!",
                     upstream as "upstream!""#,
        state,
    )
    .fetch_optional(conn)
    .await?)
}

pub(super) async fn expire_requests(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from authorization_requests where flow_id in
             (select flow_id from authorization_requests where expires_at <= authority_now() order by expires_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A code that is over is kept for a while: shown again, it ends what came of it.
pub(super) async fn expire_codes(conn: &mut PgConnection, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from authorization_codes where digest in
             (select digest from authorization_codes where expires_at <= authority_now() - interval '1 day' order by expires_at limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// One whose request still waits stays.
pub(super) async fn expire_flows(conn: &mut PgConnection, kept: i64, most: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from flows f where f.id in (
             (select id from flows where expires_at <= authority_now() order by expires_at limit $2)
             union all
             (select id from flows order by created_at desc, id desc offset $1 limit $2))
           and not exists (select from authorization_requests r where r.flow_id = f.id)
           and not exists (select from device_authorizations d where d.flow_id = f.id and d.expires_at > authority_now())",
        kept,
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
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
        new.jkt.as_ref().map(Thumbprint::as_str),
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
        jkt: row.jkt.map(|jkt| Thumbprint::parse(&jkt).ok_or(UnknownKey)).transpose().map_err(unreadable)?,
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

/// What stands there is no thumbprint.
#[derive(Debug, thiserror::Error)]
#[error("no thumbprint of a key")]
struct UnknownKey;

/// An id that was stored.
pub(super) fn id<T: FromStr>(text: &str) -> db::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(unreadable)
}

/// What was stored as JSON.
pub(super) fn readable<T: DeserializeOwned>(stored: Value) -> db::Result<T> {
    serde_json::from_value(stored).map_err(unreadable)
}

pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> db::Error {
    sqlx::Error::Decode(Box::new(error)).into()
}

//! SQL of the outbox.

use serde_json::Value;
use sqlx::PgConnection;

use crate::db;
use crate::types::id::{DeliveryId, WebhookId};
use crate::types::page::Page;
use crate::webhooks::{Delivery, Event};

/// What stands in place of a webhook's id where an owner is told by mail.
pub(in crate::webhooks) const MAIL: &str = "mail";

/// One row for each who asked for it, or for `only` this webhook. Names and the owner come from where they are, so that
/// whoever notes needs no look-up.
pub(super) async fn note(tx: &mut PgConnection, event: &Event, only: Option<WebhookId>) -> db::Result<()> {
    sqlx::query!(
        r#"with thing as (
             select k.id as key_id, k.name as key_name, k.environment, a.id as agent_id, a.name as agent_name, a.owner,
                    coalesce($4::text, a.project) as project
             from (select) as one left join keys k on k.id = $5::text left join agents a on a.id = coalesce($6::text, k.agent_id)
           ), wanted as (
             select w.id as webhook_id, null as mail_to, thing.* from thing
             join webhooks w on not w.disabled and (w.id = $8 or $8::text is null and w.events && array['*', $2::text]
               and (w.project is null or w.project = thing.project))
             union all
             -- An owner may be a team's name; mail goes to addresses only.
             select 'mail', thing.owner, thing.* from thing
             where $7::boolean and length(thing.owner) <= 254 and thing.owner ~ '^[A-Za-z0-9.!#$%&''*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$'
               and exists (select from mailers where seen_at > authority_now() - interval '1 day')
           )
           insert into deliveries (id, event_id, type, webhook_id, mail_to, body)
           select 'dlv_' || replace(gen_random_uuid()::text, '-', ''), $1::text, $2, webhook_id, mail_to, jsonb_build_object(
             'type', $2, 'timestamp', to_char(authority_now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
             'data', jsonb_strip_nulls(jsonb_build_object('project', project, 'key_id', key_id, 'key_name', key_name,
               'environment', environment, 'agent_id', agent_id, 'agent_name', agent_name, 'owner', owner, 'expires_at',
               (select to_char(max(s.expires_at) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') from secrets s where s.owner = key_id)))
             || $3::jsonb)::text
           from wanted"#,
        event.id.as_str(),
        event.kind.as_str(),
        Value::Object(event.data.clone()),
        event.project,
        event.key,
        event.agent,
        event.to_owner,
        only.as_ref().map(WebhookId::as_str),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn find(
    connection: &mut PgConnection,
    webhook: WebhookId,
    id: DeliveryId,
) -> db::Result<Option<Delivery>> {
    Ok(sqlx::query_as!(
        Delivery,
        "select id, event_id, type as kind, status, attempts, created_at, next_attempt_at, last_attempt_at, last_status,
                last_error, ended_at
         from deliveries where webhook_id = $1 and id = $2",
        webhook.as_str(),
        id.as_str(),
    )
    .fetch_optional(connection)
    .await?)
}

/// The delivery of an event that was noted in this transaction.
pub(super) async fn of_event(tx: &mut PgConnection, webhook: WebhookId, event: &str) -> db::Result<Option<Delivery>> {
    Ok(sqlx::query_as!(
        Delivery,
        "select id, event_id, type as kind, status, attempts, created_at, next_attempt_at, last_attempt_at, last_status,
                last_error, ended_at
         from deliveries where webhook_id = $1 and event_id = $2 order by created_at desc, id desc limit 1",
        webhook.as_str(),
        event,
    )
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    webhook: WebhookId,
    status: Option<&str>,
    page: &Page,
) -> db::Result<Vec<Delivery>> {
    Ok(sqlx::query_as!(
        Delivery,
        "select id, event_id, type as kind, status, attempts, created_at, next_attempt_at, last_attempt_at, last_status,
                last_error, ended_at
         from deliveries where webhook_id = $1 and ($2::text is null or status = $2)
           and ($3::timestamptz is null or (created_at, id) < ($3, $4::text))
         order by created_at desc, id desc limit $5",
        webhook.as_str(),
        status,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

/// What is over waits again, with all its attempts before it.
pub(super) async fn again(tx: &mut PgConnection, webhook: WebhookId, id: DeliveryId) -> db::Result<()> {
    sqlx::query!(
        "update deliveries set status = 'pending', attempts = 0, next_attempt_at = authority_now(), ended_at = null
         where webhook_id = $1 and id = $2 and status <> 'pending'",
        webhook.as_str(),
        id.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Who is to be told something now: ids of webhooks, and [`MAIL`] where it can be sent.
pub(in crate::webhooks) async fn due(connection: &mut PgConnection, mail: bool) -> db::Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"select id as "id!" from (select id from webhooks where not disabled union all select $2 where $1::boolean) as told
           where exists (
             select from deliveries d where d.webhook_id = told.id and d.status = 'pending' and d.next_attempt_at <= authority_now())"#,
        mail,
        MAIL,
    )
    .fetch_all(connection)
    .await?)
}

/// An attempt that begins.
pub(in crate::webhooks) struct Attempt {
    pub(in crate::webhooks) id: String,
    pub(in crate::webhooks) event_id: String,
    pub(in crate::webhooks) mail_to: Option<String>,
    pub(in crate::webhooks) body: String,
    pub(in crate::webhooks) attempts: i32,
}

/// Takes what is due, for as long as an attempt can take: then another node takes it, if this one died meanwhile. Nothing is
/// taken for a webhook that is switched off.
pub(in crate::webhooks) async fn claim(
    connection: &mut PgConnection,
    told: &str,
    lease_seconds: i64,
    limit: i64,
) -> db::Result<Vec<Attempt>> {
    Ok(sqlx::query_as!(
        Attempt,
        "update deliveries set attempts = attempts + 1, last_attempt_at = authority_now(),
                next_attempt_at = authority_now() + $2::bigint * interval '1 second'
         where id = any(array(
           select id from deliveries where webhook_id = $1 and status = 'pending' and next_attempt_at <= authority_now()
             and ($1 = $4 or exists (select from webhooks w where w.id = $1 and not w.disabled))
           order by next_attempt_at for update skip locked limit $3))
         returning id, event_id, mail_to, body, attempts",
        told,
        lease_seconds,
        limit,
        MAIL,
    )
    .fetch_all(connection)
    .await?)
}

/// How an attempt ended.
pub(in crate::webhooks) struct Ended<'a> {
    pub(in crate::webhooks) id: &'a str,
    /// Which attempt it was.
    pub(in crate::webhooks) attempts: i32,
    /// `pending`, `delivered` or `dead`.
    pub(in crate::webhooks) status: &'static str,
    pub(in crate::webhooks) last_status: Option<i32>,
    pub(in crate::webhooks) last_error: Option<&'a str>,
    /// When it is tried again.
    pub(in crate::webhooks) wait_seconds: f64,
}

/// Writes how an attempt ended. What came through is over, whoever tries it once more meanwhile; a failure counts only for
/// the attempt that is the last.
pub(in crate::webhooks) async fn settle(tx: &mut PgConnection, ended: &Ended<'_>) -> db::Result<()> {
    sqlx::query!(
        "update deliveries set status = $3, last_status = $4, last_error = $5,
             next_attempt_at = case when $3 = 'pending' then authority_now() + $6::float8 * interval '1 second' end,
             ended_at = case when $3 <> 'pending' then authority_now() end
         where id = $1 and status = 'pending' and ($3 = 'delivered' or attempts = $2)",
        ended.id,
        ended.attempts,
        ended.status,
        ended.last_status,
        ended.last_error,
        ended.wait_seconds,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What waited too long is dead.
pub(super) async fn give_up(tx: &mut PgConnection, days: i32, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "update deliveries set status = 'dead', next_attempt_at = null, ended_at = authority_now(), last_error = coalesce(last_error, 'waited')
         where id = any(array(select id from deliveries
           where status = 'pending' and greatest(created_at, last_attempt_at) < authority_now() - $1::integer * interval '1 day'
             and next_attempt_at < authority_now() limit $2 for update skip locked))",
        days,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn remove_over(tx: &mut PgConnection, (delivered, dead): (i32, i32), limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from deliveries where id = any(array(select id from deliveries
           where ended_at < authority_now() - $1::integer * interval '1 day'
             and (status = 'delivered' or ended_at < authority_now() - $2::integer * interval '1 day')
           order by ended_at limit $3))",
        delivered,
        dead,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Keeps no more of one webhook, or of mail, than so many.
pub(super) async fn remove_crowd(tx: &mut PgConnection, kept: i64, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from deliveries where id = any(array(
           select d.id from (select id from webhooks union all select $3) as told,
           lateral (select id from deliveries where webhook_id = told.id
                    order by created_at desc, id desc offset $1 limit $2) as d))",
        kept,
        limit,
        MAIL,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Removes what was for webhooks that are gone.
pub(super) async fn remove_orphans(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from deliveries where id = any(array(select id from deliveries d
           where webhook_id <> $2 and not exists (select from webhooks w where w.id = d.webhook_id) limit $1))",
        limit,
        MAIL,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

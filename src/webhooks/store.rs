//! SQL of webhooks and their keys.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::types::id::WebhookId;
use crate::types::page::Page;
use crate::webhooks::signature::{KeyRow, Signature};
use crate::webhooks::{NewWebhook, Webhook};

struct Row {
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    project: Option<String>,
    signature: String,
    public_keys: Vec<String>,
    disabled: bool,
    disabled_for: Option<String>,
    failing_since: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl From<Row> for Webhook {
    fn from(row: Row) -> Self {
        let Row { id, name, url, events, project, signature, .. } = row;
        let Row { public_keys, disabled, disabled_for, failing_since, created_at, .. } = row;
        let signature = Signature::parse(&signature);
        Self {
            id,
            name,
            url,
            events,
            project,
            signature,
            public_keys,
            disabled,
            disabled_for,
            failing_since,
            created_at,
        }
    }
}

pub(super) async fn find(connection: &mut PgConnection, id: WebhookId) -> db::Result<Option<Webhook>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, name, url, events, project, signature, disabled, disabled_for, failing_since, created_at,
                  array(select public_key from webhook_keys k where k.webhook_id = webhooks.id and public_key is not null
                        and (signs_until is null or signs_until > authority_now()) order by version desc) as "public_keys!"
           from webhooks where id = $1"#,
        id.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Webhook::from))
}

pub(super) async fn list(connection: &mut PgConnection, page: &Page) -> db::Result<Vec<Webhook>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, name, url, events, project, signature, disabled, disabled_for, failing_since, created_at,
                  array(select public_key from webhook_keys k where k.webhook_id = webhooks.id and public_key is not null
                        and (signs_until is null or signs_until > authority_now()) order by version desc) as "public_keys!"
           from webhooks where $1::timestamptz is null or (created_at, id) < ($1, $2::text)
           order by created_at desc, id desc limit $3"#,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Webhook::from).collect())
}

/// How many there are. Whoever adds one waits for the end of this transaction.
pub(super) async fn count(tx: &mut PgConnection) -> db::Result<usize> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('webhooks', 0))").fetch_one(&mut *tx).await?;
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from webhooks"#).fetch_one(tx).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub(super) async fn insert(tx: &mut PgConnection, id: WebhookId, new: &NewWebhook) -> db::Result<()> {
    sqlx::query!(
        "insert into webhooks (id, name, url, events, project, signature) values ($1, $2, $3, $4, $5, $6)",
        id.as_str(),
        new.name,
        new.url,
        &new.events,
        new.project,
        new.signature.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Its row waits for the end of the transaction.
pub(super) async fn lock(tx: &mut PgConnection, id: WebhookId) -> db::Result<()> {
    sqlx::query!("select id from webhooks where id = $1 for no key update", id.as_str()).fetch_optional(tx).await?;
    Ok(())
}

/// Who switches it on or off settles why it was off, and since when it fails.
pub(super) async fn set(tx: &mut PgConnection, webhook: &Webhook) -> db::Result<()> {
    sqlx::query!(
        "update webhooks set name = $2, url = $3, events = $4, disabled = $5,
             disabled_for = case when disabled = $5 then disabled_for end,
             failing_since = case when disabled = $5 and url = $3 then failing_since end
         where id = $1",
        webhook.id,
        webhook.name,
        webhook.url,
        &webhook.events,
        webhook.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: WebhookId) -> db::Result<()> {
    sqlx::query!("delete from webhooks where id = $1", id.as_str()).execute(tx).await?;
    Ok(())
}

/// Ends what signs after the grace, and gives the newest version. Of those before it none is left.
pub(super) async fn retire_keys(tx: &mut PgConnection, id: WebhookId, grace_seconds: i64) -> db::Result<i32> {
    sqlx::query!("delete from webhook_keys where webhook_id = $1 and signs_until is not null", id.as_str())
        .execute(&mut *tx)
        .await?;
    let newest = sqlx::query_scalar!(
        "update webhook_keys set signs_until = authority_now() + $2::bigint * interval '1 second'
         where webhook_id = $1 returning version",
        id.as_str(),
        grace_seconds,
    )
    .fetch_optional(tx)
    .await?;
    Ok(newest.unwrap_or(0))
}

pub(super) async fn insert_key(
    tx: &mut PgConnection,
    (webhook, version): (WebhookId, i32),
    key: &KeyRow,
    public_key: Option<&str>,
) -> db::Result<()> {
    sqlx::query!(
        "insert into webhook_keys (id, webhook_id, version, secret_key, sealed, public_key) values ($1, $2, $3, $4, $5, $6)",
        key.id,
        webhook.as_str(),
        version,
        key.secret_key,
        key.sealed,
        public_key,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What signs now, newest first.
pub(super) async fn keys(connection: &mut PgConnection, id: WebhookId) -> db::Result<Vec<KeyRow>> {
    Ok(sqlx::query_as!(
        KeyRow,
        "select id, secret_key, sealed from webhook_keys
         where webhook_id = $1 and (signs_until is null or signs_until > authority_now()) order by version desc",
        id.as_str(),
    )
    .fetch_all(connection)
    .await?)
}

pub(super) async fn sealed_under_others(
    connection: &mut PgConnection,
    secret_key: &str,
    limit: i64,
) -> db::Result<Vec<KeyRow>> {
    Ok(sqlx::query_as!(
        KeyRow,
        "select id, secret_key, sealed from webhook_keys where secret_key <> $1 order by id limit $2",
        secret_key,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

pub(super) async fn reseal(tx: &mut PgConnection, id: &str, secret_key: &str, sealed: &[u8]) -> db::Result<()> {
    sqlx::query!("update webhook_keys set secret_key = $2, sealed = $3 where id = $1", id, secret_key, sealed)
        .execute(tx)
        .await?;
    Ok(())
}

/// The last delivery came through.
pub(super) async fn came_through(tx: &mut PgConnection, id: WebhookId) -> db::Result<()> {
    sqlx::query!("update webhooks set failing_since = null where id = $1 and failing_since is not null", id.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// The last delivery did not. Gives the webhook if it is switched off by that: its receiver is gone, or failed for so long.
pub(super) async fn failed(
    tx: &mut PgConnection,
    id: WebhookId,
    gone: bool,
    seconds_max: i64,
) -> db::Result<Option<String>> {
    // Only the first failure after a success, and the last one, write.
    let reason = sqlx::query_scalar!(
        r#"update webhooks set failing_since = coalesce(failing_since, authority_now()),
             disabled = $2 or coalesce(failing_since < authority_now() - $3::bigint * interval '1 second', false),
             disabled_for = case when $2 then 'gone' when failing_since < authority_now() - $3::bigint * interval '1 second' then 'failing' end
           where id = $1 and not disabled
             and ($2 or failing_since is null or failing_since < authority_now() - $3::bigint * interval '1 second')
           returning disabled_for"#,
        id.as_str(),
        gone,
        seconds_max,
    )
    .fetch_optional(tx)
    .await?;
    Ok(reason.flatten())
}

/// Forgets keys that sign no more.
pub(super) async fn expire_keys(tx: &mut PgConnection) -> db::Result<u64> {
    let done = sqlx::query!("delete from webhook_keys where signs_until < authority_now()").execute(tx).await?;
    Ok(done.rows_affected())
}

/// A node that can send mail is here.
pub(super) async fn mailer_seen(connection: &mut PgConnection) -> db::Result<()> {
    sqlx::query!(
        "insert into mailers (seen_at) values (authority_now()) on conflict (one) do update set seen_at = authority_now()
         where mailers.seen_at < authority_now() - interval '1 minute'"
    )
    .execute(connection)
    .await?;
    Ok(())
}

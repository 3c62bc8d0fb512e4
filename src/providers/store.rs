//! SQL of identity providers, their rules, and the logout tokens that they sent.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::providers::{ClientSecret, PROVIDERS_MAX, Provider, ProviderKind, Rule, Settings};
use crate::types::id::{ProviderId, RoleId};
use crate::types::page::Page;

struct Row {
    id: String,
    name: String,
    title: String,
    kind: String,
    settings: Value,
    secret_key: Option<String>,
    client_secret: Option<Vec<u8>>,
    enterprise_managed: bool,
    disabled: bool,
    created_at: OffsetDateTime,
}

fn unreadable(id: &str) -> db::Error {
    db::Error::Sqlx(sqlx::Error::Decode(format!("provider {id} cannot be read").into()))
}

async fn with_rules(connection: &mut PgConnection, rows: Vec<Row>) -> db::Result<Vec<Provider>> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut found = sqlx::query!(
        "select provider_id, claim, value, role_id from provider_rules where provider_id = any($1) order by provider_id, position",
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let mut providers = Vec::with_capacity(rows.len());
    for row in rows {
        let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|rule| rule.provider_id == row.id);
        found = others;
        let rules = own.into_iter().map(|rule| {
            let role_id = rule.role_id.parse::<RoleId>().map_err(|_| unreadable(&row.id))?;
            Ok(Rule { claim: rule.claim, value: rule.value, role_id })
        });
        let rules = rules.collect::<db::Result<Vec<_>>>()?;
        let id = row.id.parse::<ProviderId>().map_err(|_| unreadable(&row.id))?;
        let kind = ProviderKind::parse(&row.kind).ok_or_else(|| unreadable(&row.id))?;
        let settings = Settings::read(kind, row.settings).map_err(|_| unreadable(&row.id))?;
        let client_secret =
            row.secret_key.zip(row.client_secret).map(|(secret_key, sealed)| ClientSecret { secret_key, sealed });
        providers.push(Provider {
            id,
            name: row.name,
            title: row.title,
            kind,
            enterprise_managed: row.enterprise_managed,
            disabled: row.disabled,
            settings,
            rules,
            client_secret,
            created_at: row.created_at,
        });
    }
    Ok(providers)
}

pub(super) async fn offered(connection: &mut PgConnection) -> db::Result<Vec<Provider>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, title, kind, settings, secret_key, client_secret, enterprise_managed, disabled, created_at from providers
         where deleted_at is null and not disabled order by name limit $1",
        i64::try_from(PROVIDERS_MAX).unwrap_or(i64::MAX),
    )
    .fetch_all(&mut *connection)
    .await?;
    with_rules(connection, rows).await
}

/// By its id or by its name.
pub(super) async fn find(
    connection: &mut PgConnection,
    id: Option<&str>,
    name: Option<&str>,
) -> db::Result<Option<Provider>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, title, kind, settings, secret_key, client_secret, enterprise_managed, disabled, created_at from providers
         where deleted_at is null and (id = $1 or name = $2)",
        id,
        name,
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(with_rules(connection, rows).await?.pop())
}

/// The one that is switched on, and whose assertions by this issuer stand for its people.
pub(super) async fn enterprise_managed(connection: &mut PgConnection, issuer: &str) -> db::Result<Option<Provider>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, title, kind, settings, secret_key, client_secret, enterprise_managed, disabled, created_at from providers
         where deleted_at is null and enterprise_managed and settings ->> 'issuer' = $1 and not disabled",
        issuer,
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(with_rules(connection, rows).await?.pop())
}

/// Whoever switches it off waits for this transaction, or this one for it.
pub(super) async fn hold_enterprise_managed(tx: &mut PgConnection, id: ProviderId) -> db::Result<bool> {
    let row = sqlx::query!(
        "select id from providers where id = $1 and enterprise_managed and not disabled and deleted_at is null for share",
        id.as_str()
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.is_some())
}

/// Whether there is such a provider at all.
pub(super) async fn any_enterprise_managed(connection: &mut PgConnection) -> db::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from providers where deleted_at is null and enterprise_managed and not disabled) as "some!""#
    );
    Ok(found.fetch_one(connection).await?)
}

pub(super) async fn list(connection: &mut PgConnection, page: &Page) -> db::Result<Vec<Provider>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, title, kind, settings, secret_key, client_secret, enterprise_managed, disabled, created_at from providers
         where deleted_at is null and ($1::timestamptz is null or (created_at, id) < ($1, $2::text))
         order by created_at desc, id desc limit $3",
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(&mut *connection)
    .await?;
    with_rules(connection, rows).await
}

/// Whether there is one; its row waits for the end of the transaction.
pub(super) async fn lock(tx: &mut PgConnection, id: ProviderId) -> db::Result<bool> {
    let found = sqlx::query!("select id from providers where id = $1 and deleted_at is null for update", id.as_str())
        .fetch_optional(tx)
        .await?;
    Ok(found.is_some())
}

pub(super) async fn count(tx: &mut PgConnection) -> db::Result<usize> {
    let row =
        sqlx::query!(r#"select count(*) as "count!" from providers where deleted_at is null"#).fetch_one(tx).await?;
    Ok(usize::try_from(row.count).unwrap_or(usize::MAX))
}

/// When it was made; `None`: the name is taken.
pub(super) async fn insert(tx: &mut PgConnection, provider: &Provider) -> db::Result<Option<OffsetDateTime>> {
    let secret = provider.client_secret.as_ref();
    let row = sqlx::query!(
        "insert into providers (id, name, title, kind, settings, secret_key, client_secret, disabled, enterprise_managed)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (name) where deleted_at is null do nothing returning created_at",
        provider.id.as_str(),
        provider.name,
        provider.title,
        provider.kind.as_str(),
        settings(provider),
        secret.map(|secret| secret.secret_key.as_str()),
        secret.map(|secret| secret.sealed.as_slice()),
        provider.disabled,
        provider.enterprise_managed,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.created_at))
}

pub(super) async fn set(tx: &mut PgConnection, provider: &Provider) -> db::Result<()> {
    sqlx::query!(
        "update providers set title = $2, settings = $3, enterprise_managed = $4 where id = $1",
        provider.id.as_str(),
        provider.title,
        settings(provider),
        provider.enterprise_managed,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Told to the nodes, so only when it changes.
pub(super) async fn set_disabled(tx: &mut PgConnection, id: ProviderId, disabled: bool) -> db::Result<()> {
    sqlx::query!("update providers set disabled = $2 where id = $1", id.as_str(), disabled).execute(tx).await?;
    Ok(())
}

pub(super) async fn set_client_secret(
    tx: &mut PgConnection,
    id: ProviderId,
    secret: Option<&ClientSecret>,
) -> db::Result<()> {
    sqlx::query!(
        "update providers set secret_key = $2, client_secret = $3 where id = $1",
        id.as_str(),
        secret.map(|secret| secret.secret_key.as_str()),
        secret.map(|secret| secret.sealed.as_slice()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn settings(provider: &Provider) -> Value {
    serde_json::to_value(&provider.settings).unwrap_or_default()
}

pub(super) async fn set_rules(tx: &mut PgConnection, id: ProviderId, rules: &[Rule]) -> db::Result<()> {
    sqlx::query!("delete from provider_rules where provider_id = $1", id.as_str()).execute(&mut *tx).await?;
    let claims: Vec<&str> = rules.iter().map(|rule| rule.claim.as_str()).collect();
    let values: Vec<Option<&str>> = rules.iter().map(|rule| rule.value.as_deref()).collect();
    let given: Vec<&str> = rules.iter().map(|rule| rule.role_id.as_str()).collect();
    sqlx::query!(
        "insert into provider_rules (provider_id, position, claim, value, role_id)
         select $1, place, claim, value, role
         from unnest($2::text[], $3::text[], $4::text[]) with ordinality as rules (claim, value, role, place)",
        id.as_str(),
        &claims as &[&str],
        &values as &[Option<&str>],
        &given as &[&str],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Its secret and its rules go at once: nobody needs them any more, and roles would be in use for ever.
pub(super) async fn set_deleted(tx: &mut PgConnection, id: ProviderId) -> db::Result<()> {
    set_rules(tx, id, &[]).await?;
    sqlx::query!(
        "update providers set deleted_at = authority_now(), disabled = true, secret_key = null, client_secret = null where id = $1",
        id.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Secrets sealed under another secret key than this one.
pub(super) async fn sealed_under_others(
    tx: &mut PgConnection,
    secret_key: &str,
    limit: i64,
) -> db::Result<Vec<(ProviderId, ClientSecret)>> {
    let rows = sqlx::query!(
        r#"select id, secret_key as "secret_key!", client_secret as "client_secret!" from providers
           where secret_key is not null and secret_key <> $1 order by id limit $2 for update"#,
        secret_key,
        limit,
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let id = row.id.parse().map_err(|_| unreadable(&row.id))?;
            Ok((id, ClientSecret { secret_key: row.secret_key, sealed: row.client_secret }))
        })
        .collect()
}

/// False when it was used before.
pub(super) async fn use_logout_token(
    tx: &mut PgConnection,
    provider: ProviderId,
    jti: &[u8],
    expires_at: OffsetDateTime,
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into provider_logouts (provider_id, jti, expires_at) values ($1, $2, $3) on conflict (provider_id, jti) do nothing",
        provider.as_str(),
        jti,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets logout tokens that are too old to be used, at most so many, a while after their end: no node whose clock is behind
/// takes one twice. Returns how many.
///
/// # Errors
///
/// The database refuses.
pub async fn expire_logout_tokens(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from provider_logouts where (provider_id, jti) in
           (select provider_id, jti from provider_logouts where expires_at < authority_now() - interval '10 minutes'
            order by expires_at limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

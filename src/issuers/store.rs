//! SQL of issuers, their rules, and assertions that were used.

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::db;
use crate::issuers::{Issuer, Rule};
use crate::types::id::IssuerId;
use crate::types::page::Page;

struct Row {
    id: String,
    name: String,
    issuer: String,
    jwks_uri: Option<String>,
    audience: Option<String>,
    rules: Value,
    disabled: bool,
    created_at: OffsetDateTime,
}

impl Row {
    fn read(self) -> db::Result<Issuer> {
        let unreadable = |_| {
            let why = format!("the rules of issuer {} cannot be read", self.id);
            db::Error::Sqlx(sqlx::Error::Decode(why.into()))
        };
        let rules: Vec<Rule> = serde_json::from_value(self.rules).map_err(unreadable)?;
        let Self { id, name, issuer, jwks_uri, audience, disabled, created_at, .. } = self;
        Ok(Issuer { id, name, issuer, jwks_uri, audience, rules, disabled, created_at })
    }
}

/// By its id, or by what it calls itself.
pub(super) async fn find(
    connection: &mut PgConnection,
    id: Option<&str>,
    issuer: Option<&str>,
) -> db::Result<Option<Issuer>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, name, issuer, jwks_uri, audience, disabled, created_at,
                  (select coalesce(jsonb_agg(jsonb_build_object('claims', r.claims, 'client_id', r.client_id) order by r.position), '[]')
                   from issuer_rules r where r.issuer_id = issuers.id) as "rules!"
           from issuers where id = $1 or issuer = $2"#,
        id,
        issuer,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::read).transpose()
}

pub(super) async fn list(connection: &mut PgConnection, page: &Page) -> db::Result<Vec<Issuer>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, name, issuer, jwks_uri, audience, disabled, created_at,
                  (select coalesce(jsonb_agg(jsonb_build_object('claims', r.claims, 'client_id', r.client_id) order by r.position), '[]')
                   from issuer_rules r where r.issuer_id = issuers.id) as "rules!"
           from issuers where $1::timestamptz is null or (created_at, id) < ($1, $2::text)
           order by created_at desc, id desc limit $3"#,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// Whether there is one; its row waits for the end of the transaction.
pub(super) async fn lock(tx: &mut PgConnection, id: IssuerId) -> db::Result<bool> {
    let found = sqlx::query!("select id from issuers where id = $1 for update", id.as_str()).fetch_optional(tx).await?;
    Ok(found.is_some())
}

pub(super) async fn count(tx: &mut PgConnection) -> db::Result<usize> {
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from issuers"#).fetch_one(tx).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Whether there is one that is switched on.
pub(super) async fn any(connection: &mut PgConnection) -> db::Result<bool> {
    let found = sqlx::query_scalar!(r#"select exists (select from issuers where not disabled) as "some!""#);
    Ok(found.fetch_one(connection).await?)
}

/// When it was made; `None`: there is one of this name in tokens.
pub(super) async fn insert(tx: &mut PgConnection, issuer: &Issuer) -> db::Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        "insert into issuers (id, name, issuer, jwks_uri, audience, disabled) values ($1, $2, $3, $4, $5, $6)
         on conflict (issuer) do nothing returning created_at",
        issuer.id,
        issuer.name,
        issuer.issuer,
        issuer.jwks_uri,
        issuer.audience,
        issuer.disabled,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.created_at))
}

pub(super) async fn set(tx: &mut PgConnection, issuer: &Issuer) -> db::Result<()> {
    sqlx::query!(
        "update issuers set name = $2, jwks_uri = $3, audience = $4, disabled = $5 where id = $1",
        issuer.id,
        issuer.name,
        issuer.jwks_uri,
        issuer.audience,
        issuer.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_rules(tx: &mut PgConnection, id: &str, rules: &[Rule]) -> db::Result<()> {
    sqlx::query!("delete from issuer_rules where issuer_id = $1", id).execute(&mut *tx).await?;
    sqlx::query!(
        "insert into issuer_rules (issuer_id, position, claims, client_id)
         select $1, place, rule -> 'claims', rule ->> 'client_id'
         from jsonb_array_elements($2::jsonb) with ordinality as rules (rule, place)",
        id,
        Json(rules) as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("delete from issuers where id = $1", id).execute(tx).await?;
    Ok(())
}

/// False when it was used before.
pub(super) async fn use_assertion(
    tx: &mut PgConnection,
    issuer: &str,
    jti: &[u8],
    expires_at: OffsetDateTime,
) -> db::Result<bool> {
    let done = sqlx::query!(
        "insert into used_assertions (issuer, jti, expires_at) values ($1, $2, $3) on conflict (issuer, jti) do nothing",
        issuer,
        jti,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets assertions that ended long enough ago that no node whose clock is behind takes one twice; at most `limit` of them.
/// Returns how many.
///
/// # Errors
///
/// The database refuses.
pub async fn expire_assertions(tx: &mut PgConnection, limit: i64) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from used_assertions where (issuer, jti) in
           (select issuer, jti from used_assertions where expires_at < authority_now() - interval '10 minutes'
            order by expires_at limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

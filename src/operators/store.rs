//! SQL of operators.

use sqlx::PgConnection;

use crate::db;
use crate::operators::{NewOperator, Operator};
use crate::types::page::Page;

pub(super) async fn insert(tx: &mut PgConnection, id: &str, new: &NewOperator, days: i32) -> db::Result<()> {
    sqlx::query!(
        "insert into operators (id, name, scopes, projects, allowed_cidrs, expires_in_days) values ($1, $2, $3, $4, $5, $6)",
        id,
        new.name,
        &new.scopes,
        new.projects.as_deref(),
        new.allowed_cidrs.as_deref(),
        days,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Of any project: the room compares it with the caller's rights.
pub(super) async fn find(connection: &mut PgConnection, id: &str) -> db::Result<Option<Operator>> {
    Ok(sqlx::query_as!(
        Operator,
        r#"select o.id, o.name, o.scopes, o.projects, o.allowed_cidrs, o.disabled, o.created_at, o.expires_in_days, s.expires_at as "expires_at?",
                  (select max(u.last_used_at) from secret_uses u where u.owner = o.id) as last_used_at,
                  case when o.revoked_at is not null or exists (select from revocations r where r.kind = 'operator' and r.target = o.id) then 'revoked'
                       when o.disabled then 'disabled' when s.expires_at <= authority_now() then 'expired' else 'active' end as "status!"
           from operators o left join lateral (select expires_at from secrets where owner = o.id order by version desc limit 1) s on true
           where o.id = $1"#,
        id,
    )
    .fetch_optional(connection)
    .await?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    projects: Option<&[String]>,
    page: &Page,
) -> db::Result<Vec<Operator>> {
    Ok(sqlx::query_as!(
        Operator,
        r#"select o.id, o.name, o.scopes, o.projects, o.allowed_cidrs, o.disabled, o.created_at, o.expires_in_days, s.expires_at as "expires_at?",
                  (select max(u.last_used_at) from secret_uses u where u.owner = o.id) as last_used_at,
                  case when o.revoked_at is not null or exists (select from revocations r where r.kind = 'operator' and r.target = o.id) then 'revoked'
                       when o.disabled then 'disabled' when s.expires_at <= authority_now() then 'expired' else 'active' end as "status!"
           from operators o left join lateral (select expires_at from secrets where owner = o.id order by version desc limit 1) s on true
           where ($1::text[] is null or (o.projects is not null and o.projects <@ $1))
             and ($2::timestamptz is null or (o.created_at, o.id) < ($2, $3::text))
           order by o.created_at desc, o.id desc limit $4"#,
        projects,
        page.at(),
        page.id(),
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

pub(super) async fn set(tx: &mut PgConnection, operator: &Operator) -> db::Result<()> {
    sqlx::query!(
        "update operators set name = $2, scopes = $3, projects = $4, allowed_cidrs = $5, disabled = $6 where id = $1",
        operator.id,
        operator.name,
        &operator.scopes,
        operator.projects.as_deref(),
        operator.allowed_cidrs.as_deref(),
        operator.disabled,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_revoked(tx: &mut PgConnection, id: &str) -> db::Result<()> {
    sqlx::query!("update operators set revoked_at = coalesce(revoked_at, authority_now()) where id = $1", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Operators are few; whoever changes one waits for whoever changes another.
pub(super) async fn lock_all(tx: &mut PgConnection) -> db::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('operators', 0))").execute(tx).await?;
    Ok(())
}

/// Whether an operator with `*` on all projects works.
pub(super) async fn some_with_everything(tx: &mut PgConnection) -> db::Result<bool> {
    let row = sqlx::query!(
        r#"select exists (
               select from operators o where '*' = any(o.scopes) and o.projects is null and not o.disabled and o.revoked_at is null
                  and exists (select from secrets s where s.owner = o.id and s.expires_at > authority_now())) as "some!""#,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.some)
}

pub(super) async fn projects_known(connection: &mut PgConnection, names: &[String]) -> db::Result<bool> {
    let row = sqlx::query!(
        r#"select not exists (select from unnest($1::text[]) as wanted (name) where not exists (select from projects p where p.name = wanted.name)) as "known!""#,
        names,
    )
    .fetch_one(connection)
    .await?;
    Ok(row.known)
}

/// Whether there is any operator at all.
///
/// # Errors
///
/// The database cannot answer.
pub async fn any(connection: &mut PgConnection) -> db::Result<bool> {
    Ok(sqlx::query!(r#"select exists (select from operators) as "any!""#).fetch_one(connection).await?.any)
}

/// An operator as nodes keep it.
pub struct Row {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Where.
    pub projects: Option<Vec<String>>,
    /// From where.
    pub allowed_cidrs: Option<Vec<String>>,
    /// Switched off.
    pub disabled: bool,
}

/// All operators.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select id, name, scopes, projects, allowed_cidrs, disabled from operators where revoked_at is null"
    )
    .fetch_all(connection)
    .await?)
}

/// The operators named.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        "select id, name, scopes, projects, allowed_cidrs, disabled from operators where revoked_at is null and id = any($1)",
        ids,
    )
    .fetch_all(connection)
    .await?)
}

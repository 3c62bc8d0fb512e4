//! SQL of sessions.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::db::partitions;
use crate::gate::Holder;
use crate::sessions::Draft;
use crate::types::caller::Caller;
use crate::types::clock::Timestamp;
use crate::types::page::{After, Listed, Page};

const EXPIRE_BATCH: i64 = 10_000;

/// A row to be written.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct New {
    pub(super) id: String,
    pub(super) key_id: Option<String>,
    pub(super) key_version: Option<i32>,
    pub(super) agent_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) consent_id: Option<String>,
    pub(super) family_id: Option<String>,
    pub(super) server_id: String,
    pub(super) permissions: Vec<String>,
    pub(super) act: Option<Value>,
    pub(super) ancestors: Vec<String>,
    pub(super) client_ip: Option<String>,
    pub(super) history: i64,
    pub(super) number: i64,
    pub(super) kid: String,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
}

impl New {
    pub(super) fn of(draft: &Draft, kid: &str) -> Self {
        let claims = &draft.claims;
        let (user_id, client_id, consent_id) = match draft.holder {
            Holder::Key { .. } => (None, None, None),
            Holder::Consent(id) => (Some(claims.sub.clone()), Some(claims.client_id.clone()), Some(id.to_string())),
            Holder::Client(_) => (None, Some(claims.client_id.clone()), None),
        };
        Self {
            id: claims.jti.to_string(),
            key_id: claims.key_id.map(|id| id.to_string()),
            key_version: claims.kv,
            agent_id: claims.agent_id.map(|id| id.to_string()),
            user_id,
            client_id,
            consent_id,
            family_id: draft.family.map(|id| id.to_string()),
            server_id: claims.srv.to_string(),
            permissions: claims.permissions.iter().map(ToString::to_string).collect(),
            act: claims.act.as_ref().and_then(|act| serde_json::to_value(act).ok()),
            ancestors: claims.anc.clone(),
            client_ip: draft.address.map(|address| address.to_string()),
            history: draft.position.history,
            number: draft.position.number,
            kid: kid.to_owned(),
            issued_at: claims.iat,
            expires_at: claims.exp,
        }
    }
}

/// One statement for a whole batch, a column at a time. Arrays of arrays must be rectangular, so lists travel as texts with
/// spaces between: neither permissions nor ids have any.
pub(super) async fn insert(tx: &mut PgConnection, rows: &[New]) -> db::Result<()> {
    let column = |of: fn(&New) -> &str| rows.iter().map(of).collect::<Vec<&str>>();
    let list = |of: fn(&New) -> &[String]| rows.iter().map(|row| of(row).join(" ")).collect::<Vec<String>>();
    let number = |of: fn(&New) -> i64| rows.iter().map(of).collect::<Vec<i64>>();
    let some = |of: fn(&New) -> Option<&String>| {
        rows.iter().map(|row| of(row).map(String::as_str)).collect::<Vec<Option<&str>>>()
    };
    let key_versions: Vec<Option<i32>> = rows.iter().map(|row| row.key_version).collect();
    let acts: Vec<Option<Value>> = rows.iter().map(|row| row.act.clone()).collect();
    let addresses: Vec<Option<&str>> = rows.iter().map(|row| row.client_ip.as_deref()).collect();
    sqlx::query!(
        "insert into sessions (id, key_id, key_version, agent_id, server_id, permissions, act, ancestors, client_ip,
                               history, number, kid, issued_at, expires_at, user_id, client_id, consent_id, family_id)
         select id, key_id, key_version, agent_id, server_id, string_to_array(permissions, ' '), act,
                string_to_array(ancestors, ' '), client_ip::inet, history, number, kid, to_timestamp(issued_at), to_timestamp(expires_at),
                user_id, client_id, consent_id, family_id
         from unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[],
                     $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[],
                     $15::text[], $16::text[], $17::text[], $18::text[])
              as r (id, key_id, key_version, agent_id, server_id, permissions, act, ancestors, client_ip, history, number, kid,
                    issued_at, expires_at, user_id, client_id, consent_id, family_id)",
        &column(|row| &row.id) as &[&str],
        &some(|row| row.key_id.as_ref()) as &[Option<&str>],
        &key_versions as &[Option<i32>],
        &some(|row| row.agent_id.as_ref()) as &[Option<&str>],
        &column(|row| &row.server_id) as &[&str],
        &list(|row| &row.permissions),
        &acts as &[Option<Value>],
        &list(|row| &row.ancestors),
        &addresses as &[Option<&str>],
        &number(|row| row.history),
        &number(|row| row.number),
        &column(|row| &row.kid) as &[&str],
        &number(|row| row.issued_at),
        &number(|row| row.expires_at),
        &some(|row| row.user_id.as_ref()) as &[Option<&str>],
        &some(|row| row.client_id.as_ref()) as &[Option<&str>],
        &some(|row| row.consent_id.as_ref()) as &[Option<&str>],
        &some(|row| row.family_id.as_ref()) as &[Option<&str>],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A session token's row as it is read; the token itself is nowhere.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Session {
    /// The token's `jti`.
    pub id: String,
    /// To which agent it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// From which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// For which person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// To which OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// For which server.
    pub server_id: String,
    /// With which permissions.
    pub permissions: Vec<String>,
    /// Who acts for the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::gate::Actor>)]
    pub act: Option<Value>,
    /// From where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// `active`, `expired` or `revoked`. What it hangs on may be dead before it says so here.
    pub status: String,
}

/// What a list of sessions is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// To which agent.
    pub agent_id: Option<String>,
    /// From which key.
    pub key_id: Option<String>,
    /// For which person.
    pub user_id: Option<String>,
    /// To which OAuth client.
    pub client_id: Option<String>,
    /// For which server.
    pub server_id: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub status: Option<String>,
    /// Issued after.
    pub issued_after: Option<OffsetDateTime>,
}

/// The sessions that the caller may see – of agents in, or for servers of, its projects –, newest first: that is the order
/// of their ids. None that lives is older than an hour.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(
    connection: &mut PgConnection,
    by: &Caller,
    filter: &Filter,
    page: &Page,
) -> db::Result<Listed<Session>> {
    let items = if let Some(agent) = &filter.agent_id {
        of_agent(connection, by, agent, filter, page).await?
    } else {
        sqlx::query_as!(
            Session,
            r#"select id as "id!", agent_id, key_id, user_id, client_id, server_id as "server_id!", permissions as "permissions!", act, client_ip,
                      issued_at as "issued_at!", expires_at as "expires_at!", status as "status!"
               from session_list s
               where ($1::text[] is null or (select project from agents where agents.id = s.agent_id) = any($1)
                      or (select project from servers where servers.id = s.server_id) = any($1))
                 and ($2::text is null or key_id = $2) and ($3::text is null or server_id = $3) and ($4::text is null or status = $4)
                 and ($4 is null or $4 <> 'active' or id > id_at('ses', authority_now() - interval '2 hours'))
                 and ($5::timestamptz is null or (issued_at > $5 and id > id_at('ses', $5 - interval '1 hour')))
                 and ($6::text is null or id < $6) and ($7::text is null or user_id = $7) and ($8::text is null or client_id = $8)
               order by id desc limit $9"#,
            by.projects(),
            filter.key_id,
            filter.server_id,
            filter.status,
            filter.issued_after,
            page.id(),
            filter.user_id,
            filter.client_id,
            page.fetch(),
        )
        .fetch_all(connection)
        .await?
    };
    Ok(page.cut(items, |session| After { at: session.issued_at, id: session.id.clone() }))
}

/// An agent's are those of its keys, which have an index: a page of each key, and of these the newest.
async fn of_agent(
    connection: &mut PgConnection,
    by: &Caller,
    agent: &str,
    filter: &Filter,
    page: &Page,
) -> db::Result<Vec<Session>> {
    Ok(sqlx::query_as!(
        Session,
        r#"select s.id as "id!", s.agent_id, s.key_id, s.user_id, s.client_id, s.server_id as "server_id!", s.permissions as "permissions!", s.act,
                  s.client_ip, s.issued_at as "issued_at!", s.expires_at as "expires_at!", s.status as "status!"
           from keys k cross join lateral (
               select * from session_list l
               where l.key_id = k.id
                 and ($1::text[] is null or (select project from agents where agents.id = l.agent_id) = any($1)
                      or (select project from servers where servers.id = l.server_id) = any($1))
                 and ($4::text is null or l.server_id = $4) and ($5::text is null or l.status = $5)
                 and ($5 is null or $5 <> 'active' or l.id > id_at('ses', authority_now() - interval '2 hours'))
                 and ($6::timestamptz is null or (l.issued_at > $6 and l.id > id_at('ses', $6 - interval '1 hour')))
                 and ($7::text is null or l.id < $7) and ($8::text is null or l.user_id = $8) and ($9::text is null or l.client_id = $9)
               order by l.id desc limit $10) s
           where k.agent_id = $2 and ($3::text is null or k.id = $3)
           order by s.id desc limit $10"#,
        by.projects(),
        agent,
        filter.key_id,
        filter.server_id,
        filter.status,
        filter.issued_after,
        page.id(),
        filter.user_id,
        filter.client_id,
        page.fetch(),
    )
    .fetch_all(connection)
    .await?)
}

/// One session that the caller may see.
///
/// # Errors
///
/// The database cannot answer.
pub async fn find(connection: &mut PgConnection, by: &Caller, id: &str) -> db::Result<Option<Session>> {
    Ok(sqlx::query_as!(
        Session,
        r#"select id as "id!", agent_id, key_id, user_id, client_id, server_id as "server_id!", permissions as "permissions!", act, client_ip,
                  issued_at as "issued_at!", expires_at as "expires_at!", status as "status!"
           from session_list s
           where id = $2 and ($1::text[] is null or (select project from agents where agents.id = s.agent_id) = any($1)
                              or (select project from servers where servers.id = s.server_id) = any($1))"#,
        by.projects(),
        id,
    )
    .fetch_optional(connection)
    .await?)
}

/// Removes rows of tokens that expired before `before`, of those that were issued while a partition was missing. A bounded
/// number at a time; [`drop_spent`] removes all others.
///
/// # Errors
///
/// The database refuses.
pub async fn expire(connection: &mut PgConnection, before: Timestamp) -> db::Result<u64> {
    let done = sqlx::query!(
        "delete from sessions_rest where id in (select id from sessions_rest where expires_at < $1 limit $2)",
        before.to_utc(),
        EXPIRE_BATCH,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Drops the oldest partition whose tokens all expired before `before`. False: there is none.
///
/// # Errors
///
/// The database refuses, or somebody holds the table.
pub async fn drop_spent(tx: &mut PgConnection, before: Timestamp) -> db::Result<bool> {
    let before = before.to_utc();
    // A token lives for an hour at most. Where a clock was wrong its row lies in the wrong partition, so each is looked at.
    let found = sqlx::query!(
        r#"select name as "name!" from partitions
           where parent = 'sessions' and high <= id_at('ses', $1::timestamptz - interval '1 hour') order by high limit 1"#,
        before,
    )
    .fetch_optional(&mut *tx)
    .await?;
    match found {
        Some(row) => partitions::drop_one(tx, &row.name, Some(("expires_at", before))).await,
        None => Ok(false),
    }
}

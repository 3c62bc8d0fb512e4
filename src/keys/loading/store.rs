//! SQL of what nodes read.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use crate::db;
use crate::grants;
use crate::secrets;
use crate::secrets::Digest;

/// A key as nodes keep it. A revoked one is kept until its secrets have ended, so that its uses are told apart from guesses.
pub struct Row {
    /// Its id.
    pub id: String,
    /// Whose.
    pub agent_id: String,
    /// Where it is good.
    pub environment: String,
    /// From where.
    pub allowed_cidrs: Option<Vec<String>>,
    /// May be shown to a server.
    pub direct: bool,
    /// Switched off.
    pub disabled: bool,
    /// For good.
    pub revoked: bool,
}

/// A key beside one of its secret's versions and one of its grants, if it has any.
pub struct Joined {
    /// The key.
    pub key: Row,
    /// A version of its secret.
    pub secret: Option<secrets::Row>,
    /// A grant.
    pub grant: Option<grants::Row>,
}

/// All keys, of every project, each handed over as it arrives: once for each version of its secret with each of its grants. Most
/// have one of either, and what a node reads at its start costs by the row.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_all(connection: &mut PgConnection, mut each: impl FnMut(Joined)) -> db::Result<()> {
    let mut rows = sqlx::query!(
        r#"select k.id, k.agent_id, k.environment, k.allowed_cidrs, k.direct, k.disabled, k.revoked_at is not null as "revoked!",
                  s.version as "version?", s.secret_key as "secret_key?", s.digest as "digest?: Digest",
                  s.created_at as "created_at?", s.expires_at as "expires_at?",
                  g.server_id as "server_id?", g.permissions as "permissions?"
           from keys k left join secrets s on s.owner = k.id left join grants g on g.holder = k.id
           where k.revoked_at is null or s.expires_at > authority_now()"#
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let secret = row.version.zip(row.secret_key).zip(row.digest.zip(row.created_at));
        let secret = secret.map(|((version, secret_key), (digest, created_at))| {
            let (owner, expires_at) = (row.id.clone(), row.expires_at);
            secrets::Row { owner, version, secret_key, digest, created_at, expires_at }
        });
        let grant = row.server_id.zip(row.permissions);
        let grant =
            grant.map(|(server_id, permissions)| grants::Row { holder: row.id.clone(), server_id, permissions });
        let key = Row {
            id: row.id,
            agent_id: row.agent_id,
            environment: row.environment,
            allowed_cidrs: row.allowed_cidrs,
            direct: row.direct,
            disabled: row.disabled,
            revoked: row.revoked,
        };
        each(Joined { key, secret, grant });
    }
    Ok(())
}

/// The keys named, of every project.
///
/// # Errors
///
/// The database cannot answer.
pub async fn load_some(connection: &mut PgConnection, ids: &[String]) -> db::Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select id, agent_id, environment, allowed_cidrs, direct, disabled, revoked_at is not null as "revoked!" from keys k
           where id = any($1)
             and (revoked_at is null or exists (select from secrets s where s.owner = k.id and s.expires_at > authority_now()))"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

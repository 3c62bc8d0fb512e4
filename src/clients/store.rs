//! SQL of clients.

use serde_json::Value;
use sqlx::PgConnection;

use crate::clients::ClientKind;
use crate::db;

/// A client that a request names, with the row's own state.
pub(super) struct Named {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) client_id: String,
    pub(super) project: String,
    pub(super) metadata: Value,
    pub(super) disabled: bool,
    pub(super) deleted: bool,
}

pub(super) async fn find_by_client_id(connection: &mut PgConnection, client_id: &str) -> db::Result<Option<Named>> {
    Ok(sqlx::query_as!(
        Named,
        r#"select id, kind, client_id, project, metadata, disabled, deleted_at is not null as "deleted!" from clients where client_id = $1"#,
        client_id,
    )
    .fetch_optional(connection)
    .await?)
}

/// Notes that somebody agrees to a client now; false when it is switched off or gone.
pub(super) async fn note_consent(tx: &mut PgConnection, id: &str) -> db::Result<bool> {
    let done = sqlx::query!(
        "update clients set last_used_at = authority_now() where id = $1 and deleted_at is null and not disabled",
        id
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) struct New<'a> {
    pub(super) id: String,
    pub(super) kind: ClientKind,
    pub(super) client_id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) project: &'a str,
    pub(super) metadata: Value,
}

pub(super) struct Settled {
    pub(super) id: String,
    pub(super) made: bool,
}

/// The row of a document client, made or brought up to date; `None` when it is switched off or deleted.
pub(super) async fn settle(tx: &mut PgConnection, new: &New<'_>) -> db::Result<Option<Settled>> {
    Ok(sqlx::query_as!(
        Settled,
        r#"insert into clients (id, kind, client_id, name, project, metadata, last_used_at) values ($1, $2, $3, $4, $5, $6, authority_now())
           on conflict (client_id) do update set name = excluded.name, metadata = excluded.metadata, last_used_at = excluded.last_used_at
             where clients.deleted_at is null and not clients.disabled
           returning id, id = $1 as "made!""#,
        new.id,
        new.kind.as_str(),
        new.client_id,
        new.name,
        new.project,
        new.metadata,
    )
    .fetch_optional(tx)
    .await?)
}

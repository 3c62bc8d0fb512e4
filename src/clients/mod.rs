//! OAuth clients: the applications that ask for tokens on behalf of people, or for themselves. Owns `clients` and
//! `client_assertions`.
//!
//! However a client comes to be known – a metadata document at its own address, a registration, an operator – it ends
//! as one [`metadata::ClientMetadata`], checked by the same rules.

mod application;
mod assertion;
mod change;
pub mod document;
mod keys;
pub mod metadata;
pub mod redirect;
mod register;
mod store;
mod terms;
#[cfg(test)]
mod tests;
mod wire;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::{self, Db};
use crate::grants::{self, Grant};
use crate::refusal::{Code, Refused};
use crate::secrets;
use crate::types::caller::Caller;
use crate::types::id::ClientId;
use crate::types::page::{After, Listed, Page};

pub use application::{Application, ClientKind, Clients, Unresolved, settle};
pub use assertion::{ASSERTION_TYPE, Assertion, Shown, Unproved};
pub use change::{Change, NewClient, change, create, delete, rotate};
pub use register::{Refusal, Registered, UNUSED_MAX, register, sweep};
pub use store::expire_assertions;
pub use wire::Described;

/// A client as it is read.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// What stands in requests and tokens: its id, or the address of its document.
    pub client_id: String,
    /// How it came to be known.
    pub kind: ClientKind,
    /// Its project.
    pub project: String,
    /// What it says about itself; of a document: what it said when somebody last agreed to it.
    #[serde(flatten)]
    pub metadata: Described,
    /// What it may do for itself, by client credentials.
    pub grants: Vec<Grant>,
    /// Switched off: nothing of it works.
    pub disabled: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When somebody last agreed to it, or it last authenticated, to the hour. Absent: never.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<OffsetDateTime>,
    /// The versions of its secret, newest first; only when one client is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<secrets::Shown>,
}

/// What a list of clients is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Its project.
    pub project: Option<String>,
    /// How it came to be known.
    pub kind: Option<ClientKind>,
    /// Switched off or not.
    pub disabled: Option<bool>,
    /// How its name begins, in any case.
    pub q: Option<String>,
}

/// A client that the caller may see, with the versions of its secret.
///
/// # Errors
///
/// There is none.
pub async fn get(connection: &mut PgConnection, by: &Caller, id: &str) -> Result<Client, Refused> {
    let row = store::find(connection, by.projects(), id).await?.ok_or_else(|| Refused::not_found("client"))?;
    let held = grants::of(connection, id).await?;
    Ok(Client { secrets: secrets::shown(connection, id, &[]).await?, ..with_grants(row, held)? })
}

/// The clients that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<Client>, Refused> {
    let mut connection = db.begin_list().await?;
    let (rows, edge) = store::list(&mut connection, by.projects(), filter, page).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut held = grants::of_many(&mut connection, &ids).await?;
    let own = |row: store::Stored| {
        let held = held.remove(&row.id).unwrap_or_default();
        with_grants(row, held)
    };
    let items = rows.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut_at(items, edge, |client| After { at: client.created_at, id: client.id.clone() }))
}

/// The versions of the secret of the client that this id means, live or not; none where nobody has one. Costs the same
/// statement for every id.
///
/// # Errors
///
/// The database cannot answer.
pub async fn versions(connection: &mut PgConnection, client_id: &str) -> db::Result<Vec<secrets::Row>> {
    secrets::load_some(connection, &[client_id.to_owned()]).await
}

/// The number of the newest version of a client's secret.
///
/// # Errors
///
/// The database cannot answer.
pub async fn newest_version(db: &Db, id: ClientId) -> Result<Option<i32>, Refused> {
    let rows = versions(&mut *db.reads().acquire().await?, id.as_str()).await?;
    Ok(rows.into_iter().map(|row| row.version).max())
}

fn with_grants(row: store::Stored, grants: Vec<Grant>) -> Result<Client, Refused> {
    let kind = ClientKind::parse(&row.kind);
    let kind = kind.ok_or_else(|| Refused::new(Code::Internal, "A stored client is of an unknown kind."))?;
    Ok(Client {
        metadata: change::described(kind, &row.metadata)?,
        id: row.id,
        client_id: row.client_id,
        kind,
        project: row.project,
        grants,
        disabled: row.disabled,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        secrets: Vec::new(),
    })
}

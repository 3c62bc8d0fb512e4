//! What a person allowed a client on a server: it grows with each consent, and ends as a whole.

mod found;
mod store;

use sqlx::PgConnection;

pub use found::{
    ALLOWED_SHOWN_MAX, Allowed, Consent, ConsentFilter, allowed_by, allowed_one, get_consent, list_consents,
};
pub use store::{ConsentRow, load_all_consents, load_some_consents};

use crate::audit::{self, Entry};
use crate::db;
use crate::refusal::{Code, Refused};
use crate::types::caller::Caller;
use crate::types::id::{ClientId, ConsentId, ServerId, UserId};
use crate::types::permission::{GRANT_PERMISSIONS_MAX, Permissions};

/// Rows that go in one transaction.
const EXPIRE_BATCH: i64 = 500;

/// Writes down what a person agreed to, added to what they agreed to before: asking for more later takes nothing away.
///
/// # Errors
///
/// With what was agreed before there would be more than [`GRANT_PERMISSIONS_MAX`] permissions, or the database refuses.
pub async fn consent(
    tx: &mut PgConnection,
    by: &Caller,
    whom: (UserId, ClientId, ServerId),
    permissions: &Permissions,
) -> Result<ConsentId, Refused> {
    write(tx, by, whom, (permissions, permissions)).await
}

/// The same in the person's place, by its provider. It bounds what is issued as any consent does, and no page is skipped for it:
/// [`agreed`] does not know of it.
///
/// # Errors
///
/// As [`consent`].
pub async fn provide(
    tx: &mut PgConnection,
    by: &Caller,
    whom: (UserId, ClientId, ServerId),
    permissions: &Permissions,
) -> Result<ConsentId, Refused> {
    write(tx, by, whom, (permissions, &Permissions::default())).await
}

async fn write(
    tx: &mut PgConnection,
    by: &Caller,
    (user, client, server): (UserId, ClientId, ServerId),
    (permissions, own): (&Permissions, &Permissions),
) -> Result<ConsentId, Refused> {
    let place = store::Place { user, client, server };
    let new = ConsentId::random();
    // Who comes second waits here for the first, and then adds to it.
    let id = if store::insert_consent(tx, new, &place, (&list(permissions)?, &list(own)?)).await? {
        new
    } else {
        let (id, before, own_before) = store::lock_consent(tx, &place).await?;
        if before.covers_all(permissions) && own_before.covers_all(own) {
            return Ok(id);
        }
        let (all, own) = (before.union(permissions), own_before.union(own));
        store::set_consent(tx, id, (&list(&all)?, &list(&own)?)).await?;
        id
    };
    let mut entry = Entry::new(by, "consent.given")
        .on(id.as_str())
        .server(server.as_str())
        .with("client_id", client.as_str())
        .with("user_id", user.as_str())
        .with("permissions", list(permissions)?);
    if let Some(project) = store::project_of_server(tx, server).await? {
        entry = entry.project(&project);
    }
    audit::append(tx, &entry).await?;
    Ok(id)
}

/// The id of the consent for a client on a server, if there ever was one.
///
/// # Errors
///
/// The database cannot answer.
pub async fn consent_id(
    conn: &mut PgConnection,
    (user, client, server): (UserId, ClientId, ServerId),
) -> db::Result<Option<ConsentId>> {
    store::consent_id(conn, &store::Place { user, client, server }).await
}

/// What a person itself agreed to so far for a client on a server.
///
/// # Errors
///
/// The database cannot answer.
pub async fn agreed(
    conn: &mut PgConnection,
    user: UserId,
    client: ClientId,
    server: ServerId,
) -> db::Result<Option<(ConsentId, Permissions)>> {
    store::find_consent(conn, &store::Place { user, client, server }).await
}

/// Removes what was agreed to and revoked since, a bounded number at a time: until then its entry of the revocation list
/// says so, and that is forgotten. Returns how many went.
///
/// # Errors
///
/// The database refuses.
pub async fn expire_consents(tx: &mut PgConnection) -> db::Result<u64> {
    store::remove_revoked(tx, EXPIRE_BATCH).await
}

fn list(permissions: &Permissions) -> Result<Vec<String>, Refused> {
    if permissions.len() > GRANT_PERMISSIONS_MAX {
        let detail = format!("A client has at most {GRANT_PERMISSIONS_MAX} permissions on a server.");
        return Err(Refused::new(Code::InvalidFields, detail));
    }
    Ok(permissions.iter().map(ToString::to_string).collect())
}

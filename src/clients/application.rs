//! Who a `client_id` means: a row, a document at its own address, or nobody.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::document::{ClientDocuments, ClientUrl};
use super::keys::{KEYS_BYTES_MAX, KeySet};
use super::metadata::{ClientMetadata, Mistake, Source};
use super::store;
use super::wire::Described;
use crate::audit::{self, Entry};
use crate::db::{self, Db};
use crate::outbound::{Documents, Failure, Outbound, Shape};
use crate::projects;
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::clock::BootInstant;
use crate::types::id::ClientId;

/// Key sets kept at most; together some sixteen mebibytes.
const KEY_SETS_MAX: usize = 1_024;

/// The last use of a client is written this often at most.
const NOTED_EVERY: Duration = Duration::from_hours(1);
/// Clients of which it is remembered that it was.
const NOTED_MAX: usize = 10_000;

type KeySets = Documents<KeySet, &'static str>;

/// How a client came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// By an operator.
    Registered,
    /// By dynamic registration (RFC 7591): by anybody.
    Dynamic,
    /// By a metadata document at its own address.
    Document,
}

impl ClientKind {
    /// Its name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Dynamic => "dynamic",
            Self::Document => "document",
        }
    }

    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Registered, Self::Dynamic, Self::Document].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A client that a request names, whatever it was made by.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id; `None`: a document whose client has no row yet, since nobody agreed to it so far.
    pub id: Option<ClientId>,
    /// What stands in requests and tokens: its id, or the address of its document.
    pub client_id: String,
    /// How it came to be known.
    pub kind: ClientKind,
    /// Its project.
    pub project: String,
    /// Switched off: nothing of it works. Whoever resolves it must look.
    pub disabled: bool,
    /// What it says about itself; of a document: as fetched now.
    pub metadata: Arc<ClientMetadata>,
}

/// Why a `client_id` means nobody.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// There is no such client, or there is none any more.
    #[error("there is no such client")]
    Unknown,
    /// Its description cannot be had or breaks a rule.
    #[error("the client's metadata cannot be used: {0}")]
    Document(Failure<Mistake>),
    /// The database cannot answer.
    #[error(transparent)]
    Database(#[from] db::Error),
}

/// What this node knows of clients that describe themselves elsewhere. One per node.
pub struct Clients {
    documents: ClientDocuments,
    pub(super) keys: KeySets,
    noted: Cache<ClientId, BootInstant>,
}

impl Clients {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(outbound: &Outbound) -> Self {
        let shape = Shape { bytes_max: KEYS_BYTES_MAX, count_max: KEY_SETS_MAX, read: KeySet::fetched };
        Self {
            documents: ClientDocuments::new(outbound.clone()),
            keys: Documents::new(outbound.clone(), shape),
            noted: Cache::new(NOTED_MAX),
        }
    }

    /// Whether resolving this id would ask another host.
    #[must_use]
    pub fn must_ask(&self, client_id: &str, now: BootInstant) -> bool {
        ClientUrl::parse(client_id).is_ok_and(|url| !self.documents.is_known(&url, now))
    }

    /// Notes that a client authenticated, for lists; at most once in an hour on this node.
    ///
    /// # Errors
    ///
    /// The database refuses; it is noted the next time.
    pub async fn note_use(&self, db: &Db, id: ClientId, now: BootInstant) -> db::Result<()> {
        if self.noted.get(&id).is_some_and(|noted| now < noted.plus(NOTED_EVERY)) {
            return Ok(());
        }
        let mut tx = db.begin().await?;
        store::note_use(&mut tx, id.as_str()).await?;
        db::commit(tx).await?;
        self.noted.insert(id, now);
        Ok(())
    }

    /// The client that this id means, switched off or not. A row is read anew each time; a document may be one from
    /// before, as long as its headers allow.
    ///
    /// # Errors
    ///
    /// It means nobody, or nobody who can be asked.
    pub async fn resolve(&self, db: &Db, client_id: &str, now: BootInstant) -> Result<Application, Unresolved> {
        let url = if ClientUrl::is_meant(client_id) {
            let url = ClientUrl::parse(client_id).map_err(|_| {
                Failure::Invalid(Mistake::new("client_id", "must be an https address with a path, in its plain form"))
            });
            Some(url.map_err(Unresolved::Document)?)
        } else {
            client_id.parse::<ClientId>().map_err(|_| Unresolved::Unknown)?;
            None
        };
        let row =
            store::find_by_client_id(&mut *db.reads().acquire().await.map_err(db::Error::from)?, client_id).await?;
        match (row, url) {
            (Some(row), _) if row.deleted => Err(Unresolved::Unknown),
            // Whoever is switched off is not asked what it says.
            (Some(row), Some(url)) if !row.disabled => {
                let metadata = self.documents.get(&url, now).await.map_err(Unresolved::Document)?;
                Ok(Application { metadata, ..row.application()? })
            }
            (Some(row), _) => row.application(),
            (None, Some(url)) => Ok(Application {
                id: None,
                client_id: client_id.to_owned(),
                kind: ClientKind::Document,
                project: projects::DEFAULT.to_owned(),
                disabled: false,
                metadata: self.documents.get(&url, now).await.map_err(Unresolved::Document)?,
            }),
            (None, None) => Err(Unresolved::Unknown),
        }
    }
}

impl store::Named {
    fn application(self) -> Result<Application, Unresolved> {
        let kind = ClientKind::parse(&self.kind).ok_or(Unresolved::Unknown)?;
        let metadata =
            stored(kind, self.metadata).map_err(|mistake| Unresolved::Document(Failure::Invalid(mistake)))?;
        Ok(Application {
            id: Some(self.id.parse().map_err(|_| Unresolved::Unknown)?),
            client_id: self.client_id,
            kind,
            project: self.project,
            disabled: self.disabled,
            metadata: Arc::new(metadata),
        })
    }
}

/// Metadata as it stands in a row.
pub(super) fn stored(kind: ClientKind, metadata: Value) -> Result<ClientMetadata, Mistake> {
    let members: Map<String, Value> = if let Value::Object(members) = metadata { members } else { Map::new() };
    let source = if kind == ClientKind::Document { Source::Document } else { Source::Registration };
    ClientMetadata::read(members, source)
}

/// The row of an application, made for a document client when somebody first agrees to it, and kept as it then describes
/// itself. Notes that it is in use: it is not swept away. Audited when it is made.
///
/// # Errors
///
/// It was switched off or deleted meanwhile, or the database refuses.
pub async fn settle(tx: &mut PgConnection, by: &Caller, application: &Application) -> Result<ClientId, Refused> {
    let gone = || Refused::not_found("client");
    if application.kind != ClientKind::Document {
        let id = application.id.ok_or_else(gone)?;
        return if store::note_consent(tx, id.as_str()).await? { Ok(id) } else { Err(gone()) };
    }
    let metadata = Described::from(&*application.metadata);
    let new = store::New {
        id: ClientId::random().to_string(),
        kind: ClientKind::Document,
        client_id: &application.client_id,
        name: metadata.client_name.as_deref(),
        project: &application.project,
        metadata: Value::Object(metadata.members()),
    };
    let settled = store::settle(tx, &new).await?.ok_or_else(gone)?;
    if settled.made {
        let entry = Entry::new(by, "client.settled").on(&settled.id).project(&application.project);
        audit::append(tx, &entry.with("client_id", application.client_id.as_str())).await?;
    }
    settled.id.parse().map_err(|_| gone())
}

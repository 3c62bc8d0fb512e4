//! Flows as operators read them: which there were, and what happened in one, step by step.
//!
//! A flow is seen where its server belongs; while no server is known, where its client does; else on all projects only.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::flows::plain;
use crate::db::Db;
use crate::refusal::Refused;
use crate::types::caller::Caller;
use crate::types::id::FlowId;
use crate::types::page::{After, Listed, Page};

/// How a flow stands: how its last step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FlowResult)]
pub enum Outcome {
    /// It waits, or was left.
    Open,
    /// Its last step was refused.
    Refused,
    /// The client has its token.
    Done,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Done => "done",
        }
    }

    fn parse(name: &str) -> Self {
        [Self::Refused, Self::Done].into_iter().find(|known| known.as_str() == name).unwrap_or(Self::Open)
    }
}

/// A flow: one request of a client, and all that became of it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Flow {
    /// Its id, as pages and error descriptions show it.
    pub id: String,
    /// The client, as the request named it: there may be none of that name.
    pub client_id: String,
    /// For which server, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Who signed in, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The server's project, or the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// How it stands.
    pub result: Outcome,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A step of a flow.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Step {
    /// Its place.
    pub number: i32,
    /// What was done: `request`, `device`, `consent`, `provider`, `sign_in`, `code`, `token`, `refresh`.
    pub step: String,
    /// Absent: it went well. Else a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// What happened in a flow. It holds no secret.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Trace {
    /// The flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// What the client calls itself, if it has a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// What the server is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What the person is called at its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its steps, in order; at most 64 are kept.
    pub steps: Vec<Step>,
}

/// What a list of flows is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The client, as requests name it.
    pub client_id: Option<String>,
    /// Who signed in.
    pub user_id: Option<String>,
    /// How it stands.
    pub result: Option<Outcome>,
}

/// The flows that the caller may see, newest first.
///
/// # Errors
///
/// The database cannot answer.
pub async fn list(db: &Db, by: &Caller, filter: &Filter, page: &Page) -> Result<Listed<Flow>, Refused> {
    // As it was written.
    let filter = Filter { client_id: filter.client_id.as_deref().map(plain), ..filter.clone() };
    let (items, edge) = store::list(&mut *db.begin_list().await?, by.projects(), &filter, page).await?;
    Ok(page.cut_at(items, edge, |flow| After { at: flow.created_at, id: flow.id.clone() }))
}

/// What happened in a flow that the caller may see.
///
/// # Errors
///
/// There is none, or it is forgotten.
pub async fn trace(conn: &mut PgConnection, by: &Caller, id: FlowId) -> Result<Trace, Refused> {
    let found = store::find(conn, by.projects(), id.as_str()).await?;
    let mut found = found.ok_or_else(|| Refused::not_found("flow"))?;
    found.steps = store::steps(conn, id.as_str()).await?;
    Ok(found)
}

//! `/v1/leaks`: reports of credentials that were found where they must not be. The signature says who reports.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::app::{App, AppState};
use crate::audit::Entry;
use crate::gate::recognise;
use crate::http::caller::{Origin, failed};
use crate::http::extract::too_large;
use crate::http::problem::{Problem, Refusals};
use crate::http::v1::revocations::enforce;
use crate::leaks::{self, Found, Signature};
use crate::refusal::{Code, Refused};
use crate::settings::{self, Leaks};
use crate::types::caller::Caller;
use crate::types::clock::BootInstant;
use crate::types::credential::Presented;

/// Credentials in one report at most.
const TOKENS_MAX: usize = 500;

/// What GitHub found.
#[derive(Deserialize, ToSchema)]
pub struct GitHubFinding {
    /// The text that looks like a credential.
    token: String,
    /// What GitHub calls its kind.
    #[serde(rename = "type")]
    kind: String,
    /// Where.
    #[serde(default)]
    url: Option<String>,
    /// In what: `content`, `commit`, an issue.
    #[serde(default)]
    source: Option<String>,
}

/// Whether it is one of ours.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// It is.
    TruePositive,
    /// It is not.
    FalsePositive,
}

/// Our answer to a finding of GitHub's.
#[derive(Serialize, ToSchema)]
pub struct GitHubLabel {
    /// The text, as it was sent.
    token_raw: String,
    /// Its kind, as it was sent.
    token_type: String,
    /// Whether it is one of ours.
    label: Label,
}

/// A report.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeakReport {
    /// The texts that look like credentials; at most 500.
    #[schema(max_items = 500)]
    tokens: Vec<String>,
    /// Where they were found.
    #[serde(default)]
    source: Option<String>,
}

/// Our answer to a report: a label for each text, in the order of the texts.
#[derive(Serialize, ToSchema)]
pub struct LeakAnswer {
    /// The labels.
    labels: Vec<Label>,
}

/// Takes GitHub's report of credentials in public repositories (its secret scanning partner programme). ECDSA P-256 over the
/// bytes of the body; off unless `leaks.github_keys_url` of the settings is set.
#[utoipa::path(post, path = "/v1/leaks/github", operation_id = "report_github_leaks", tag = "leaks", request_body = Vec<GitHubFinding>,
    params(("Github-Public-Key-Identifier" = String, Header, description = "Which key of GitHub's signed."),
           ("Github-Public-Key-Signature" = String, Header, description = "The signature, DER in base64.")),
    responses((status = 200, description = "What each is.", body = Vec<GitHubLabel>), Refusals))]
pub async fn github(State(app): AppState, request: Request) -> Result<Json<Vec<GitHubLabel>>, Problem> {
    let Report { by, headers, body } = Report::of(&app, request).await?;
    let signature = Signature::read(
        header(&headers, "github-public-key-identifier"),
        header(&headers, "github-public-key-signature"),
    );
    let signature = signature.ok_or_else(|| nobody(&app, &by))?;
    let leaks = believed(&app).await?;
    let url = leaks.github_keys_url.as_deref().and_then(|url| Url::parse(url).ok());
    let url = url.ok_or_else(|| nobody(&app, &by))?;
    match app.github.verify(&url, &signature, &body, BootInstant::now()).await {
        Some(true) => {}
        Some(false) => return Err(nobody(&app, &by)),
        None => return Err(Refused::new(Code::TemporarilyUnavailable, "The signature cannot be checked now.").into()),
    }
    let findings: Vec<GitHubFinding> = read(&body)?;
    let by = Caller { actor: "github".to_owned(), ..by };
    let texts = findings.iter().map(|finding| {
        let GitHubFinding { url, source, .. } = finding;
        (finding.token.as_str(), url.as_deref().or(source.as_deref()).unwrap_or_default())
    });
    let labels = act(&app, &by, &leaks, texts).await?;
    let labelled = findings.into_iter().zip(labels);
    Ok(Json(
        labelled
            .map(|(finding, label)| GitHubLabel { token_raw: finding.token, token_type: finding.kind, label })
            .collect(),
    ))
}

/// Takes the report of a reporter that `leaks.reporters` of the settings names, signed as Standard Webhooks says (`v1a`).
#[utoipa::path(post, path = "/v1/leaks", operation_id = "report_leaks", tag = "leaks", request_body = LeakReport,
    params(("webhook-id" = String, Header, description = "The report's name."),
           ("webhook-timestamp" = String, Header, description = "Seconds since 1970; not older than five minutes."),
           ("webhook-signature" = String, Header, description = "`v1a,` and an Ed25519 signature in base64; several with spaces between.")),
    responses((status = 200, description = "What each is.", body = LeakAnswer), Refusals))]
pub async fn create(State(app): AppState, request: Request) -> Result<Json<LeakAnswer>, Problem> {
    let Report { by, headers, body } = Report::of(&app, request).await?;
    let signed = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| header(&headers, name));
    let [id, timestamp, signatures] = signed;
    if signed.iter().any(|value| value.is_empty()) {
        return Err(nobody(&app, &by));
    }
    let leaks = believed(&app).await?;
    let reporter = leaks::signed_by(&leaks, (id, timestamp, signatures), &body, app.live.now());
    let reporter = reporter.ok_or_else(|| nobody(&app, &by))?;
    let by = Caller { actor: format!("reporter:{}", reporter.name), ..by };
    let report: LeakReport = read(&body)?;
    let place = report.source.as_deref().unwrap_or_default();
    let labels = act(&app, &by, &leaks, report.tokens.iter().map(|token| (token.as_str(), place))).await?;
    Ok(Json(LeakAnswer { labels }))
}

/// What came, from whom nobody knows yet.
struct Report {
    by: Caller,
    headers: HeaderMap,
    body: Bytes,
}

impl Report {
    async fn of(app: &std::sync::Arc<App>, request: Request) -> Result<Self, Problem> {
        let origin = Origin::of(request.extensions());
        let headers = request.headers().clone();
        let address = origin.address(app, &headers);
        let by =
            Caller { address, request_id: origin.id.map(|id| id.to_string()), ..Caller::nobody("unknown".to_owned()) };
        let body = Bytes::from_request(request, app).await.map_err(|rejection| too_large(&rejection))?;
        Ok(Self { by, headers, body })
    }
}

/// A header that is there once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    }
}

/// One answer, whatever is wrong: it is off, the key is unknown, the signature is another's.
fn nobody(app: &App, by: &Caller) -> Problem {
    let problem = failed(app, "leaks", (by.address, None), Entry::new(by, "leak.refused").refused("signature"));
    if problem.code == Code::Unauthenticated.as_str() { Problem::from(Code::Unauthenticated) } else { problem }
}

async fn believed(app: &App) -> Result<Leaks, Refused> {
    Ok(settings::get(&mut *app.db.reads().acquire().await?).await?.leaks)
}

/// It is signed, so what is wrong with it is the reporter's to know.
fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        Refused::new(Code::InvalidJson, format!("Not a report: {:?} at line {}.", error.classify(), error.line()))
    })
}

async fn act<'a>(
    app: &App,
    by: &Caller,
    leaks: &Leaks,
    texts: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Label>, Problem> {
    if texts.len() > TOKENS_MAX {
        return Err(Refused::field("/tokens", "length", "at most 500").into());
    }
    let (mut labels, mut found) = (Vec::with_capacity(texts.len()), Vec::new());
    for (text, place) in texts {
        let what = match Presented::parse(text.trim()) {
            Some(presented) => app.live.answer(|view| recognise(view, &presented))?,
            None => None,
        };
        labels.push(if what.is_some() { Label::TruePositive } else { Label::FalsePositive });
        found.extend(what.map(|what| Found { what, place: place.to_owned() }));
    }
    if let Some((kind, done)) = leaks::act(&app.db, by, leaks, &found).await? {
        enforce(app, kind, done).await;
    }
    Ok(labels)
}

//! The command line's way to the service: its REST API, as any other program uses it.

use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use serde_json::Value;
use url::Url;

use crate::cli::Failure;
use crate::config::Desk;
use crate::types::redacted::Secret;

/// A revoking call waits for every node; nothing takes longer than this.
const SECONDS_MAX: Duration = Duration::from_mins(2);
/// No answer of the API is larger.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to the service that `MCPA_URL` names.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    key: Option<Secret<String>>,
}

impl Client {
    /// One that speaks as the operator of `MCPA_OPERATOR_KEY`.
    pub(super) fn new(desk: &Desk) -> Result<Self, Failure> {
        let key = desk.operator_key.clone().ok_or_else(|| {
            Failure::new(4, anyhow::anyhow!("MCPA_OPERATOR_KEY or MCPA_OPERATOR_KEY_FILE must hold an operator's key"))
        })?;
        Ok(Self { key: Some(key), ..Self::without_key(desk)? })
    }

    /// One that speaks as nobody.
    pub(super) fn without_key(desk: &Desk) -> Result<Self, Failure> {
        let url = desk.url.clone().ok_or_else(|| {
            Failure::new(2, anyhow::anyhow!("MCPA_URL must name the service, such as https://authority.example.com"))
        })?;
        // It follows nothing: the key goes nowhere but there.
        let http = reqwest::Client::builder().timeout(SECONDS_MAX).redirect(Policy::none()).build()?;
        Ok(Self { http, url, key: None })
    }

    /// Posts nothing as whoever holds this credential.
    pub(super) async fn post_as(&self, credential: &str, path: &str) -> Result<Value, Failure> {
        self.ask(self.request(Method::POST, path, &[])?.bearer_auth(credential)).await
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(self.as_operator(self.request(Method::GET, path, query)?)).await
    }

    /// Posts a document.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(self.as_operator(self.request(Method::POST, path, &[])?).json(body)).await
    }

    /// Posts a document once, however often it is sent under this name.
    pub(super) async fn post_once(&self, path: &str, body: &Value, name: &str) -> Result<Value, Failure> {
        let request = self.as_operator(self.request(Method::POST, path, &[])?);
        self.ask(request.header("Idempotency-Key", name).json(body)).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<reqwest::RequestBuilder, Failure> {
        let url = self.url.join(path).map_err(|error| Failure::new(2, error))?;
        Ok(self.http.request(method, url).query(query))
    }

    fn as_operator(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let away = |error: reqwest::Error| Failure::new(6, anyhow::Error::from(error).context(format!("{}", self.url)));
        let mut response = request.send().await.map_err(away)?;
        let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let (status, mut bytes) = (response.status(), Vec::new());
        while let Some(piece) = response.chunk().await.map_err(away)? {
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Failure::new(1, anyhow::anyhow!("the answer of {} is too large", self.url)));
            }
            bytes.extend_from_slice(&piece);
        }
        if status.is_success() && bytes.is_empty() {
            return Ok(Value::Null);
        }
        let document = serde_json::from_slice::<Value>(&bytes);
        match document {
            Ok(document) if status.is_success() => Ok(document),
            Ok(problem) => Err(refused(status, &problem, request_id.as_deref())),
            Err(_) if status.is_success() => {
                Err(Failure::new(1, anyhow::anyhow!("{} answered something other than JSON", self.url)))
            }
            Err(_) => Err(refused(status, &Value::Null, request_id.as_deref())),
        }
    }
}

/// The exit code of a refusal, and its words: the code, what is wrong with which member, and the request's id.
fn refused(status: StatusCode, problem: &Value, request_id: Option<&str>) -> Failure {
    let code = match status {
        StatusCode::NOT_FOUND => 3,
        StatusCode::UNAUTHORIZED => 4,
        StatusCode::FORBIDDEN => 5,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => 6,
        status if status.is_server_error() => 6,
        _ => 1,
    };
    let text = |value: &Value, member: &str| value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut said = vec![format!("{} {} {}", status.as_u16(), text(problem, "code"), text(problem, "detail"))];
    let errors = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
    said.extend(errors.map(|error| format!("  {}: {}", text(error, "pointer"), text(error, "detail"))));
    said.extend(request_id.map(|id| format!("  request {id}")));
    let said = said.join("\n");
    Failure::new(code, anyhow::anyhow!(said.replace(|sign: char| sign.is_control() && sign != '\n', "?")))
}

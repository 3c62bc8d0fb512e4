//! OAuth clients at the token, PAR and revocation endpoints: each shows who it is in exactly the way that it registered.

use zeroize::Zeroizing;

use crate::app::App;
use crate::clients::metadata::AuthMethod;
use crate::clients::{self, ASSERTION_TYPE, Application, Assertion, Shown, Unproved, Unresolved};
use crate::feed::version_of;
use crate::gate::{Inactive, Secrets, Version};
use crate::http::oauth::client::{Asking, Basic, Credentials, failed_as};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::token;
use crate::observations::{Owner, Place};
use crate::outbound::{Error, Failure};
use crate::refusal::Refused;
use crate::types::clock::BootInstant;
use crate::types::credential::{Kind, Presented};
use crate::types::id::{ClientId, KeyId, ServerId};

/// What a client's document begins with, as [`clients::document::ClientUrl`] has it.
const DOCUMENT: &str = "https://";

/// The OAuth client that sends a request, authenticated. `None`: what was presented is none of a client's – an API key, a
/// server's secret, nothing – and is for others to judge.
///
/// # Errors
///
/// `invalid_client` for one that is unknown, switched off, or did not show what it registered: always the same words.
/// `invalid_request` when two ways were used at once (RFC 6749 §2.3). 503 when it cannot be found out now.
pub(in crate::http::oauth) async fn authenticate_application(
    app: &App,
    form: &Form<'_>,
    asking: &Asking,
) -> Result<Option<Application>, OAuthError> {
    let basic = Basic::of(form.headers);
    let Some(claim) = Claim::of(&basic, form)? else { return Ok(None) };
    let named = claim.client_id().map(str::to_owned);
    let failed = |cause: &'static str| failed_as(app, asking, cause, named.as_deref());
    let client_id = named.as_deref().ok_or_else(|| failed(Inactive::Malformed.as_str()))?;
    if matches!(claim, Claim::Secret { .. }) && client_id.starts_with(DOCUMENT) {
        // Nobody has a secret for what everybody can read, so nothing is fetched for it.
        return Err(failed("wrong_method"));
    }
    // Looked at before it is known whether there is such a client: an unknown one costs the same.
    let matched = match &claim {
        Claim::Secret { secret, .. } => Some(Matched::find(app, client_id, secret).await?),
        Claim::Assertion { .. } | Claim::Name(_) => None,
    };
    let application = match resolve(app, asking, client_id).await {
        Ok(application) => application,
        Err(unresolved) => return Err(refused(unresolved, failed)),
    };
    match (&claim, &matched) {
        (Claim::Secret { method, secret, .. }, Some(matched)) => {
            matched.check(app, application.metadata.auth_method == *method).map_err(failed)?;
            if application.disabled {
                return Err(failed(Inactive::ClientDisabled.as_str()));
            }
            matched.note(app, asking, &application, secret);
        }
        (Claim::Assertion { assertion, .. }, _) => {
            if application.disabled {
                return Err(failed(Inactive::ClientDisabled.as_str()));
            }
            let assertion = assertion.as_ref().ok_or_else(|| failed(Unproved::Malformed.code()))?;
            prove(app, &application, assertion).await.map_err(|unproved| disproved(unproved, failed))?;
        }
        _ if application.metadata.is_confidential() => return Err(failed("no_credential")),
        _ if application.disabled => return Err(failed(Inactive::ClientDisabled.as_str())),
        _ => {}
    }
    note_use(app, &application).await;
    Ok(Some(application))
}

/// The client that this id means, for whoever asks from there: an address makes us fetch a bounded number of documents.
///
/// # Errors
///
/// As [`clients::Clients::resolve`]; too many documents count as one that could not be fetched for now.
pub(in crate::http::oauth) async fn resolve(
    app: &App,
    asking: &Asking,
    client_id: &str,
) -> Result<Application, Unresolved> {
    let now = BootInstant::now();
    if app.clients.must_ask(client_id, now) && app.strangers.fetch(asking.address).is_err() {
        return Err(Unresolved::Document(Failure::Fetch(Error::Busy)));
    }
    app.clients.resolve(&app.db, client_id, now).await
}

/// How a request says which client sends it.
enum Claim<'a> {
    /// By a secret, in the header or the body.
    Secret { id: Option<String>, secret: Zeroizing<String>, method: AuthMethod },
    /// By an assertion, if it is one.
    Assertion { id: Option<String>, assertion: Option<Box<Assertion<'a>>> },
    /// By name only.
    Name(&'a str),
}

impl<'a> Claim<'a> {
    fn of(basic: &'a Basic, form: &'a Form<'_>) -> Result<Option<Self>, OAuthError> {
        let named = form.get("client_id");
        match basic.credentials(form)? {
            Credentials::Basic { id, secret } => Self::basic(id, secret, named),
            Credentials::Post(secret) => {
                let is_client = named.map_or_else(|| is_secret(secret), |id| is_named(id, secret));
                let (id, secret) = (named.map(str::to_owned), Zeroizing::new(secret.to_owned()));
                Ok(is_client.then_some(Self::Secret { id, secret, method: AuthMethod::ClientSecretPost }))
            }
            Credentials::Assertion(text) => Self::assertion(text, form.get("client_assertion_type"), named),
            Credentials::Bearer(_) => Ok(None),
            Credentials::None => Ok(named.filter(|id| !is_elsewhere(id)).map(Self::Name)),
        }
    }

    /// Form-decoded where anything in it could be (RFC 6749 §2.3.1), else raw: nothing of ours holds what encoding changes.
    fn basic(id: &str, secret: &str, named: Option<&str>) -> Result<Option<Self>, OAuthError> {
        let (mut id, mut secret) = (id.to_owned(), Zeroizing::new(secret.to_owned()));
        if id.contains(['%', '+']) || secret.contains(['%', '+']) {
            (id, secret) = (form_decoded(&id), Zeroizing::new(form_decoded(&secret)));
        }
        if !is_named(&id, &secret) {
            return Ok(None);
        }
        if named.is_some_and(|named| named != id) {
            return Err(OAuthError::invalid_request("client_id is not the client that authenticates"));
        }
        Ok(Some(Self::Secret { id: Some(id), secret, method: AuthMethod::ClientSecretBasic }))
    }

    fn assertion(text: &'a str, kind: Option<&str>, named: Option<&str>) -> Result<Option<Self>, OAuthError> {
        if kind != Some(ASSERTION_TYPE) {
            return Err(OAuthError::invalid_request(format!("client_assertion_type must be {ASSERTION_TYPE}")));
        }
        let assertion = Assertion::read(text).map(Box::new);
        let id = named.or(assertion.as_ref().map(|assertion| assertion.client_id())).map(str::to_owned);
        Ok(Some(Self::Assertion { id, assertion }))
    }

    fn client_id(&self) -> Option<&str> {
        match self {
            Self::Secret { id, .. } | Self::Assertion { id, .. } => id.as_deref(),
            Self::Name(id) => Some(id),
        }
    }
}

/// Whether an id, or else the secret shown with it, is an OAuth client's.
fn is_named(id: &str, secret: &str) -> bool {
    id.starts_with(ClientId::PREFIX) || id.starts_with(DOCUMENT) || is_secret(secret)
}

fn is_secret(secret: &str) -> bool {
    Presented::parse(secret).is_some_and(|presented| presented.kind() == Kind::Client)
}

/// Whether an id is of those who are not OAuth clients, and have a way of their own.
fn is_elsewhere(id: &str) -> bool {
    id.starts_with(KeyId::PREFIX) || id.starts_with(ServerId::PREFIX)
}

fn form_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// What a secret turned out to be: a version of that client's, or of nobody's.
struct Matched {
    secrets: Secrets,
    version: Option<Version>,
}

impl Matched {
    async fn find(app: &App, client_id: &str, secret: &str) -> Result<Self, OAuthError> {
        let mut connection = app.db.reads().acquire().await.map_err(Refused::from)?;
        let rows = clients::versions(&mut connection, client_id).await.map_err(Refused::from)?;
        let secrets: Secrets = rows.iter().map(version_of).collect();
        let version = secrets.matching(&app.live.keyring, secret).copied();
        Ok(Self { secrets, version })
    }

    fn check(&self, app: &App, right_method: bool) -> Result<(), &'static str> {
        let version = self.version.as_ref().ok_or(Inactive::WrongSecret.as_str())?;
        self.secrets.check_live(version, app.live.now()).map_err(Inactive::as_str)?;
        if right_method { Ok(()) } else { Err("wrong_method") }
    }

    fn note(&self, app: &App, asking: &Asking, application: &Application, secret: &str) {
        if let (Some(id), Some(version)) = (application.id, &self.version) {
            let place = Place { at: app.live.now(), server: None, address: asking.address };
            app.used(secret, Owner::Client(id), version, place);
        }
    }
}

async fn prove(app: &App, application: &Application, assertion: &Assertion<'_>) -> Result<(), Unproved> {
    let issuer = app.config.public_url.issuer();
    let endpoint = format!("{}{}", app.config.public_url, token::PATH);
    let shown = Shown { issuer: &issuer, token_endpoint: &endpoint, now: app.live.now(), instant: BootInstant::now() };
    app.clients.prove(&app.db, application, assertion, &shown).await
}

fn refused(unresolved: Unresolved, failed: impl FnOnce(&'static str) -> OAuthError) -> OAuthError {
    match unresolved {
        Unresolved::Unknown => failed(Inactive::Unknown.as_str()),
        // A client that must not be told that it does not exist because its host cannot be heard for a moment.
        Unresolved::Document(Failure::Fetch(error)) if error.is_passing() => OAuthError::unavailable(),
        Unresolved::Document(_) => failed("client_metadata"),
        Unresolved::Database(error) => Refused::from(error).into(),
    }
}

fn disproved(unproved: Unproved, failed: impl FnOnce(&'static str) -> OAuthError) -> OAuthError {
    match unproved {
        Unproved::Keys(Failure::Fetch(error)) if error.is_passing() => OAuthError::unavailable(),
        Unproved::Database(error) => Refused::from(error).into(),
        unproved => failed(unproved.code()),
    }
}

/// For lists; that it could not be noted fails nothing.
async fn note_use(app: &App, application: &Application) {
    let Some(id) = application.id else { return };
    if let Err(error) = app.clients.note_use(&app.db, id, BootInstant::now()).await {
        tracing::warn!(%error, client = %id, "the use of a client could not be noted");
    }
}

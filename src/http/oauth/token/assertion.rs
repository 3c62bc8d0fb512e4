//! Assertions as grants (RFC 7523 §2.1), dispatched by what they are: a workload's token here, an identity assertion about a
//! person in `id_jag`. decisions/0024 says why one grant serves both.

use crate::audit::Entry;
use crate::clients::metadata::GrantType;
use crate::db;
use crate::http::oauth::client::{Basic, Credentials};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::token::{Asker, PATH, Request, TokenResponse};
use crate::issuers;
use crate::proofs::Wrong;
use crate::providers::{Asserted, IdJag, SignedToken, Terms, UpstreamError};
use crate::refusal::Refused;
use crate::sessions::{Draft, Refusal, Wish, authorise_client};
use crate::types::clock::BootInstant;
use crate::types::id::ClientId;

/// Whether a request says who sends it by its assertion alone: a workload is no client, and a `client_id` beside its token only
/// names the one that it acts as. An identity assertion is shown by a client that authenticates.
///
/// # Errors
///
/// `invalid_request` when credentials are shown in two ways.
pub(super) fn proves_itself(form: &Form<'_>) -> Result<bool, OAuthError> {
    if form.get("grant_type") != Some(GrantType::JwtBearer.as_str()) {
        return Ok(false);
    }
    let basic = Basic::of(form.headers);
    if !matches!(basic.credentials(form)?, Credentials::None) {
        return Ok(false);
    }
    let of_person = |text: &str| SignedToken::read(text).is_ok_and(|token| is_id_jag(&token));
    Ok(!form.get("assertion").is_some_and(of_person))
}

fn is_id_jag(token: &SignedToken<'_>) -> bool {
    token.typ().as_deref() == Some(IdJag::TYPE)
}

/// An assertion that does not count: one answer for every cause, so that nobody learns whom we trust.
pub(super) fn invalid(cause: &'static str) -> OAuthError {
    OAuthError::from(Refusal::InvalidGrant).because(cause)
}

/// One that could not be verified. That its signer's keys cannot be had for a moment says nothing of it.
pub(super) fn unverified(error: UpstreamError) -> OAuthError {
    if error.is_passing() { OAuthError::unavailable().because(error.as_str()) } else { invalid(error.as_str()) }
}

impl Request<'_> {
    /// A token for whom an assertion speaks of.
    pub(super) async fn by_assertion(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let issued = match SignedToken::read(self.form.need("assertion")?) {
            Err(word) => Err(invalid(word)),
            Ok(token) if is_id_jag(&token) => self.by_id_jag(&token, wish).await,
            Ok(token) => match token.typ().as_deref() {
                None | Some("jwt" | "jose") => self.by_workload(&token, wish).await,
                // A token for something else, an access token of our own among them (RFC 8725 §3.11).
                Some(_) => Err(invalid("assertion_type")),
            },
        };
        issued.map_err(|error| self.counted(error))
    }

    /// Whoever shows what is none, and does not say who it is, is told to wait after too many.
    fn counted(&self, error: OAuthError) -> OAuthError {
        let guessed = matches!(self.client, Asker::Nobody) && error.code() == "invalid_grant";
        let counted = if guessed { self.app.failures.count(self.asking.address, None) } else { Ok(()) };
        match counted {
            Ok(()) => error,
            Err(wait) => OAuthError::wait(wait.as_secs() + 1),
        }
    }

    /// What the client has, as which the workload acts.
    async fn by_workload(&self, token: &SignedToken<'_>, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let named = match self.client {
            Asker::Key(_) => return Err(OAuthError::from(Refusal::UnauthorizedClient).because("workload_with_key")),
            Asker::Application(application) => Some(application.client_id.as_str()),
            Asker::Nobody => self.form.get("client_id"),
        };
        let claimed = token.claimed_issuer().ok_or_else(|| invalid("assertion_malformed"))?;
        let mut connection = self.app.db.reads().acquire().await.map_err(db::Error::from)?;
        let issuer = issuers::trusted(&mut connection, &claimed).await?.ok_or_else(|| invalid("assertion_issuer"))?;
        drop(connection);
        let claims = self.app.issuers.claims(&issuer, token).await.map_err(unverified)?;
        let (own, endpoint) = (self.app.config.public_url.issuer(), format!("{}{PATH}", self.app.config.public_url));
        // The draft names the token endpoint, platforms mostly the server itself.
        let either = [own.as_str(), endpoint.as_str()];
        let only = issuer.audience.as_deref().map(|audience| [audience]);
        let audiences = only.as_ref().map_or(&either[..], |only| &only[..]);
        let terms = Terms { audiences, now: self.app.live.now() };
        let asserted = Asserted::read(&claims, &issuer.issuer, terms).map_err(invalid)?;
        let client = issuers::client(&issuer.rules, &claims, named).map_err(|none| invalid(none.as_str()))?;
        let draft = self.as_client(client, wish).await?;
        // Only now: what gets nothing is not used up.
        let mut tx = self.app.db.begin().await?;
        // Its keys were asked for meanwhile, which may have taken seconds. What is removed from here on cuts off this token too:
        // it was drafted before.
        let still = issuers::trusted(&mut tx, &claimed).await?.filter(|now| now.id == issuer.id);
        let rules = still.map(|now| now.rules).unwrap_or_default();
        if issuers::client(&rules, &claims, named).ok() != Some(client) {
            return Err(invalid("assertion_issuer"));
        }
        let first = issuers::use_assertion(&mut tx, &issuer.issuer, &asserted.jti, asserted.ends_at).await?;
        db::commit(tx).await?;
        if !first {
            return Err(invalid("assertion_replayed"));
        }
        self.accepted(&issuer.id, client.as_str(), &asserted);
        self.mint(draft, None).await
    }

    /// Exactly what client credentials would get the client.
    async fn as_client(&self, client: ClientId, wish: &Wish) -> Result<Draft, OAuthError> {
        let found = self.app.clients.resolve(&self.app.db, client.as_str(), BootInstant::now()).await;
        let application = found.map_err(|unresolved| match unresolved {
            crate::clients::Unresolved::Database(error) => Refused::from(error).into(),
            _ => invalid("client_gone"),
        })?;
        if application.disabled {
            return Err(invalid("client_disabled"));
        }
        if !application.metadata.grant_types.contains(&GrantType::JwtBearer) {
            return Err(OAuthError::from(Refusal::UnauthorizedClient).because("client_grant"));
        }
        if application.metadata.dpop_bound_access_tokens && self.key.is_none() {
            return Err(OAuthError::invalid_proof(Wrong::Missing));
        }
        let draft = self.app.live.answer(|view| {
            let client = view.memory.clients.get(&client).ok_or(Refusal::InvalidClient)?;
            authorise_client(view, client, wish)
        })?;
        draft.map_err(|refusal| match refusal {
            // Nobody authenticated as the client.
            Refusal::InvalidClient => invalid("client_refused"),
            refusal => refusal.into(),
        })
    }

    /// Says in the audit by whose word a token is issued, and about whom; the assertion itself is nowhere.
    pub(super) fn accepted(&self, signer: &str, client: &str, asserted: &Asserted) {
        let entry = Entry::new(&self.asking.by(signer.to_owned()), "assertion.accepted")
            .on(client)
            .with("subject", asserted.subject.as_str())
            .with("jti", asserted.jti.as_str());
        if !self.app.recorder.record(entry) {
            self.app.metrics.audit_write_failure();
        }
    }
}

//! A smaller token from a key or a token (RFC 8693).

use crate::http::oauth::error::OAuthError;
use crate::http::oauth::token::{ACCESS_TOKEN, Asker, JWT, Request, TokenResponse};
use crate::sessions::{Exchange, Refusal, Wish, exchange};

impl Request<'_> {
    pub(super) async fn by_exchange(&self, wish: &Wish) -> Result<TokenResponse, OAuthError> {
        let form = self.form;
        let subject_token = form.need("subject_token")?;
        token_type(form.need("subject_token_type")?)?;
        let actor_token = form.get("actor_token");
        match (actor_token, form.get("actor_token_type")) {
            (Some(_), Some(kind)) => token_type(kind)?,
            (None, None) => {}
            // RFC 8693 §2.1: the type is required with the token, and must not be there without it.
            _ => return Err(OAuthError::invalid_request("actor_token and actor_token_type belong together")),
        }
        let kind = form.get("requested_token_type").unwrap_or(ACCESS_TOKEN);
        token_type(kind)?;
        let client = if let Asker::Key(caller) = self.client { Some(caller) } else { None };
        let asked = Exchange { subject_token, actor_token, client, wish };
        let draft = self.app.live.answer(|view| exchange(view, &asked))??;
        if form.get("audience").is_some_and(|audience| audience != draft.claims.aud) {
            return Err(Refusal::InvalidTarget.into());
        }
        // An OAuth client acts for nobody: it makes its own tokens smaller.
        if let Asker::Application(application) = self.client
            && draft.claims.client_id != application.client_id
        {
            return Err(OAuthError::invalid_request("subject_token is not valid"));
        }
        self.mint(draft, Some(kind.to_owned())).await
    }
}

fn token_type(name: &str) -> Result<(), OAuthError> {
    if [ACCESS_TOKEN, JWT].contains(&name) {
        Ok(())
    } else {
        Err(OAuthError::invalid_request("token types are access_token and jwt"))
    }
}

//! Is this request right? First who asks and where the answer goes, because nothing is sent anywhere before both are known.

use http::StatusCode;

use super::visit::{End, Visit, stage};
use crate::app::App;
use crate::authorizations::request::{challenge, jkt, login_hint, max_age, state};
use crate::authorizations::{Mistake, Prompt, Purpose, REFERENCE_PREFIX, Request};
use crate::clients::metadata::GrantType;
use crate::clients::{Application, ClientKind, Unresolved};
use crate::gate::{Stale, View};
use crate::http::oauth::client;
use crate::http::oauth::form::Form;
use crate::outbound::Failure;
use crate::refusal::Refused;
use crate::types::id::ServerId;
use crate::types::permission::{
    GRANT_PERMISSIONS_MAX, Permission, Permissions, SCOPE_BYTES_MAX, ServerScope, requested,
};
use crate::types::resource::Canonical;

/// Asks for access while the person is away (OpenID Connect Core §11).
const OFFLINE_ACCESS: &str = "offline_access";
/// Bytes of all parameters together, beyond which a request is not read.
pub(super) const PARAMETERS_BYTES_MAX: usize = 16 * 1_024;

/// The client that the request names (A11: a wrong one is told to the person, and nobody is sent anywhere).
pub(super) async fn client(visit: &Visit, form: &Form<'_>) -> Result<Application, End> {
    let wrong = |code, detail: String| End::page(stage::REQUEST, code, "This application cannot sign you in", detail);
    if form.is_doubled("client_id") {
        return Err(wrong("doubled_parameter", "The request names the application twice.".to_owned()));
    }
    let Some(client_id) = form.get("client_id") else {
        return Err(wrong("client_missing", "The request does not say which application it is for.".to_owned()));
    };
    let application = resolve(visit, client_id).await?;
    if application.disabled {
        return Err(wrong("client_disabled", "This application is switched off here.".to_owned()));
    }
    Ok(application)
}

/// The client of this id, switched off or not.
pub(in crate::http::oauth) async fn resolve(visit: &Visit, client_id: &str) -> Result<Application, End> {
    let wrong = |code, detail: String| End::page(stage::REQUEST, code, "This application cannot sign you in", detail);
    let found = client::resolve(&visit.app, &visit.asking, client_id).await;
    found.map_err(|unresolved| match unresolved {
        Unresolved::Unknown => wrong(
            "client_unknown",
            "There is no such application here. If it was registered once, it has to be registered again.".to_owned(),
        ),
        Unresolved::Document(Failure::Invalid(mistake)) => {
            wrong("client_document", format!("What the application says about itself cannot be used: {mistake}."))
        }
        Unresolved::Document(failure) => {
            let detail = format!("What the application says about itself cannot be had: {failure}.");
            wrong("client_document", detail).status(StatusCode::BAD_GATEWAY)
        }
        Unresolved::Database(error) => End::failed(Refused::from(error)),
    })
}

/// Where the answer goes: exactly one of the client's own, but for the port of this machine (A11, A12, attack 21).
pub(in crate::http::oauth) fn redirect_uri(form: &Form<'_>, client: &Application) -> Result<String, End> {
    let known = &client.metadata.redirect_uris;
    let wrong = |code, detail: &str| {
        End::page(stage::REQUEST, code, "This application gave a wrong address to return to", detail).expected(known)
    };
    if form.is_doubled("redirect_uri") {
        return Err(wrong("doubled_parameter", "The request names two addresses to return to."));
    }
    match (form.get("redirect_uri"), known.as_slice()) {
        (Some(asked), _) if client.metadata.has_redirect_uri(asked) => Ok(asked.to_owned()),
        (Some(_), _) => Err(wrong(
            "redirect_mismatch",
            "The address to return to is none of those that the application is known by.",
        )),
        // OAuth 2.1 §4.1.1: it may be left out where there is only one.
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(wrong("redirect_missing", "The request does not say where to return to.")),
    }
}

/// Everything else. What is wrong goes to the client.
pub(in crate::http::oauth) fn rest(
    app: &App,
    form: &Form<'_>,
    client: &Application,
    redirect_uri: String,
) -> Result<Result<Request, (Mistake, Option<String>)>, End> {
    // Two states are none: nobody could say which of them the client would know.
    let given = if form.is_doubled("state") { Ok(None) } else { state(form.get("state")) };
    let given = match given {
        Ok(given) => given,
        Err(mistake) => return Ok(Err((mistake, None))),
    };
    let read = app.live.answer(|view| read(view, form, client, redirect_uri))?;
    Ok(match read {
        Ok(request) => Ok(Request { state: given, ..request }),
        Err(mistake) => Err((mistake, given)),
    })
}

/// What a device asks for (RFC 8628 §3.1): judged as what a browser brings is.
pub(in crate::http::oauth) fn for_device(
    app: &App,
    form: &Form<'_>,
    client: &Application,
) -> Result<Result<Request, Mistake>, Stale> {
    app.live.answer(|view| {
        let (server_id, scopes) = server(view, &form.all("resource"))?;
        let wish = wish(form.get("scope"), &scopes, client)?;
        Ok(Request {
            client_id: client.client_id.clone(),
            redirect_uri: String::new(),
            state: None,
            code_challenge: String::new(),
            jkt: None,
            server_id: Some(server_id),
            asked: wish.asked,
            scopes: wish.named,
            offline: wish.offline,
            prompt: Prompt::default(),
            max_age: None,
            login_hint: None,
            agreed: false,
            other_account: false,
            purpose: Purpose::Client,
        })
    })
}

fn read(view: View<'_>, form: &Form<'_>, client: &Application, redirect_uri: String) -> Result<Request, Mistake> {
    form.checked().map_err(|_| Mistake::invalid("a parameter stands more than once"))?;
    if form.get("request").is_some() {
        return Err(Mistake::new("request_not_supported", "request objects are not read here"));
    }
    if form.get("request_uri").is_some_and(|uri| !uri.starts_with(REFERENCE_PREFIX)) {
        return Err(Mistake::new("request_uri_not_supported", "only references of pushed requests are read here"));
    }
    match form.get("response_type") {
        Some("code") => {}
        None => return Err(Mistake::invalid("response_type is missing")),
        Some(_) => return Err(Mistake::new("unsupported_response_type", "response_type must be code")),
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(Mistake::invalid("response_mode must be query"));
    }
    if !client.metadata.grant_types.contains(&GrantType::AuthorizationCode) {
        return Err(Mistake::new("unauthorized_client", "the client is not registered for authorization codes"));
    }
    let code_challenge = challenge(form.get("code_challenge"), form.get("code_challenge_method"))?;
    let (server_id, scopes) = server(view, &form.all("resource"))?;
    let wish = wish(form.get("scope"), &scopes, client)?;
    Ok(Request {
        client_id: client.client_id.clone(),
        redirect_uri,
        state: None,
        code_challenge,
        jkt: jkt(form.get("dpop_jkt"))?,
        server_id: Some(server_id),
        asked: wish.asked,
        scopes: wish.named,
        offline: wish.offline,
        prompt: Prompt::read(form.get("prompt"))?,
        max_age: max_age(form.get("max_age"))?,
        login_hint: login_hint(form.get("login_hint")),
        agreed: false,
        other_account: false,
        purpose: Purpose::Client,
    })
}

/// The server that the token is for (A16, RFC 8707 §2), with its scopes. Not named, it is the only one there is.
pub(in crate::http::oauth) fn server(
    view: View<'_>,
    resources: &[String],
) -> Result<(ServerId, Vec<ServerScope>), Mistake> {
    let target = |description: &str| Mistake::new("invalid_target", description);
    let unknown = || target("the resource is none of the servers here; ask for it as it is registered");
    let id = match resources {
        [] => {
            let mut all = view.memory.servers.iter().filter(|(_, server)| !server.disabled);
            match (all.next(), all.next()) {
                (Some((id, _)), None) => *id,
                _ => return Err(target("resource is missing: it names the server that the token is for")),
            }
        }
        [resource] => {
            let canonical = Canonical::parse(resource).map_err(|_| unknown())?;
            *view.memory.resources.get(&canonical).ok_or_else(unknown)?
        }
        _ => return Err(target("one resource at a time: a token is for one server")),
    };
    let server = view.memory.servers.get(&id).filter(|server| !server.disabled).ok_or_else(unknown)?;
    Ok((id, server.scopes.clone()))
}

/// What is asked for.
pub(in crate::http::oauth) struct Wish {
    /// The permissions; `None`: whatever there is.
    pub(in crate::http::oauth) asked: Option<Permissions>,
    named: Vec<String>,
    offline: bool,
}

/// What a scope asks for of a server with these scopes, within what an operator bound the client to.
pub(in crate::http::oauth) fn wish(
    scope: Option<&str>,
    scopes: &[ServerScope],
    client: &Application,
) -> Result<Wish, Mistake> {
    let invalid = |description: String| Mistake::new("invalid_scope", description);
    let words = || scope.unwrap_or_default().split(' ');
    let offline = words().any(|word| word == OFFLINE_ACCESS);
    let rest = words().filter(|word| *word != OFFLINE_ACCESS).collect::<Vec<_>>().join(" ");
    if rest.len() > SCOPE_BYTES_MAX {
        return Err(invalid(format!("scope is longer than {SCOPE_BYTES_MAX} bytes; ask for less")));
    }
    // Nothing said: all that the server itself has names for; if it has none, what the person's roles give.
    let mut asked = match (rest.as_str(), scopes) {
        ("", []) => None,
        ("", scopes) => Some(scopes.iter().flat_map(|scope| scope.permissions().iter().cloned()).collect()),
        (rest, scopes) => Some(requested(rest, scopes).map_err(|error| invalid(error.to_string()))?),
    };
    if let Some(bound) = bound(client, scopes) {
        let within: Permissions = asked.map_or_else(|| bound.clone(), |asked: Permissions| asked.intersect(&bound));
        if within.is_empty() {
            return Err(invalid("nothing of what was asked for is open to this client".to_owned()));
        }
        asked = Some(within);
    }
    if asked.as_ref().is_some_and(|asked| asked.len() > GRANT_PERMISSIONS_MAX) {
        return Err(invalid(format!(
            "more than {GRANT_PERMISSIONS_MAX} permissions at once; name those that are needed"
        )));
    }
    let is_named = |scope: &&ServerScope| rest.is_empty() || rest.split(' ').any(|word| word == scope.name());
    let held = |scope: &&ServerScope| asked.as_ref().is_some_and(|asked| asked.covers_all(scope.permissions()));
    let named = scopes.iter().filter(is_named).filter(held).map(|scope| scope.name().to_owned()).collect();
    Ok(Wish { asked, named, offline })
}

/// What an operator bound a client to. What others say about themselves binds nobody: they ask for more when they need it.
fn bound(client: &Application, scopes: &[ServerScope]) -> Option<Permissions> {
    let scope = client.metadata.scope.as_deref().filter(|_| client.kind == ClientKind::Registered)?;
    let meant = |word: &str| -> Vec<Permission> {
        match scopes.iter().find(|scope| scope.name() == word) {
            Some(scope) => scope.permissions().iter().cloned().collect(),
            None => Permission::parse(word).into_iter().collect(),
        }
    };
    Some(scope.split(' ').flat_map(meant).collect())
}

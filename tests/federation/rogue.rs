//! An OpenID Connect provider that says whatever the test wants said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_authority::providers::{Begun, Person, Provider, SignInWish, UpstreamError};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{CLIENT_ID, CLIENT_SECRET, Certificates, Ours, Server, callback, query};

/// The key id that everything is signed under.
pub(crate) const KID: &str = "key/../1' or '1'='1";

/// A key pair for ES256.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.0.der_bytes();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": part(1..33), "y": part(33..65)})
    }

    pub(crate) fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_ec_der(self.0.serialized_der())).unwrap()
    }
}

/// What a test changes of the provider's words.
#[derive(Default)]
pub(crate) struct Words {
    /// Members of the configuration, over the right ones; null takes one away.
    pub(crate) configuration: Value,
    /// The key set, if not the right one.
    pub(crate) keys: Option<Value>,
    /// Claims of the ID token, over the right ones; null takes one away.
    pub(crate) claims: Value,
    /// The whole ID token.
    pub(crate) id_token: Option<String>,
    /// The reply of the token endpoint: status and body.
    pub(crate) tokens: Option<(u16, Value)>,
    /// The reply of userinfo.
    pub(crate) userinfo: Option<(u16, Value)>,
    /// Every path answers so.
    pub(crate) everywhere: Option<Everywhere>,
}

/// How a host fails.
#[derive(Clone, Copy)]
pub(crate) enum Everywhere {
    Elsewhere,
    Huge,
    Broken,
    Never,
}

/// A form that was sent, and the `Authorization` beside it.
pub(crate) type Sent = (HashMap<String, String>, Option<String>);

pub(crate) struct Rogue {
    pub(crate) issuer: String,
    pub(crate) key: Key,
    pub(crate) words: Mutex<Words>,
    /// The forms that the token endpoint was sent.
    pub(crate) forms: Mutex<Vec<Sent>>,
    /// How often the keys were asked for.
    pub(crate) keys_asked: AtomicUsize,
    nonce: Mutex<String>,
    now: Mutex<i64>,
}

impl Rogue {
    pub(crate) async fn start(certificates: &Certificates) -> (Arc<Self>, Server) {
        let mut made = None;
        let server = Server::start(certificates, |origin| {
            let rogue = Arc::new(Self {
                issuer: origin.to_owned(),
                key: Key::new(),
                words: Mutex::default(),
                forms: Mutex::default(),
                keys_asked: AtomicUsize::new(0),
                nonce: Mutex::default(),
                now: Mutex::default(),
            });
            made = Some(Arc::clone(&rogue));
            Router::new()
                .route("/.well-known/openid-configuration", get(configuration))
                .route("/keys", get(keys))
                .route("/token", post(token))
                .route("/userinfo", get(userinfo))
                .with_state(rogue)
        })
        .await;
        (made.unwrap(), server)
    }

    /// Signs in with it, after the test said what it says.
    pub(crate) async fn signs_in(
        &self,
        ours: &Ours,
        provider: &Provider,
        words: Words,
    ) -> Result<Person, UpstreamError> {
        *self.words.lock().unwrap() = words;
        let begun = ours.upstream.begin(provider, &callback(), &SignInWish::default()).await?;
        self.answers(ours, provider, &begun).await
    }

    /// The second half of a sign-in.
    pub(crate) async fn answers(
        &self,
        ours: &Ours,
        provider: &Provider,
        begun: &Begun,
    ) -> Result<Person, UpstreamError> {
        self.expects(ours, begun);
        let mut back = callback();
        back.query_pairs_mut().append_pair("code", "c1").append_pair("state", begun.state.reveal());
        ours.finish(provider, begun, &back).await
    }

    /// From here on its claims are right for this sign-in.
    pub(crate) fn expects(&self, ours: &Ours, begun: &Begun) {
        *self.nonce.lock().unwrap() = query(&begun.url, "nonce").unwrap();
        *self.now.lock().unwrap() = ours.now();
    }

    /// The claims that are right now.
    pub(crate) fn claims(&self) -> Value {
        let now = *self.now.lock().unwrap();
        json!({"iss": self.issuer, "sub": "carol", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "nonce": *self.nonce.lock().unwrap(), "preferred_username": "Carol"})
    }

    fn fails(&self) -> Option<Everywhere> {
        self.words.lock().unwrap().everywhere
    }
}

/// The header of what it signs.
pub(crate) fn header() -> Header {
    Header { kid: Some(KID.to_owned()), ..Header::new(Algorithm::ES256) }
}

/// `changes` over `right`; null takes a member away.
pub(crate) fn over(mut right: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            right.as_object_mut().unwrap().remove(name);
        } else {
            right[name] = value.clone();
        }
    }
    right
}

async fn fail(how: Everywhere) -> Response {
    match how {
        Everywhere::Elsewhere => Redirect::temporary("/elsewhere").into_response(),
        Everywhere::Huge => Json("x".repeat(2 * 1024 * 1024)).into_response(),
        Everywhere::Broken => StatusCode::BAD_GATEWAY.into_response(),
        Everywhere::Never => {
            Semaphore::new(0).acquire().await.unwrap().forget();
            StatusCode::OK.into_response()
        }
    }
}

async fn configuration(State(rogue): State<Arc<Rogue>>) -> Response {
    if let Some(how) = rogue.fails() {
        return fail(how).await;
    }
    let issuer = &rogue.issuer;
    let right = json!({"issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/userinfo"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]});
    // Kept no longer than must be, so that each test asks anew.
    ([("cache-control", "no-store")], Json(over(right, &rogue.words.lock().unwrap().configuration))).into_response()
}

async fn keys(State(rogue): State<Arc<Rogue>>) -> Response {
    rogue.keys_asked.fetch_add(1, Ordering::SeqCst);
    let keys = rogue.words.lock().unwrap().keys.clone();
    Json(keys.unwrap_or_else(|| json!({"keys": [rogue.key.jwk(KID)]}))).into_response()
}

async fn token(
    State(rogue): State<Arc<Rogue>>,
    headers: http::HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let basic = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    rogue.forms.lock().unwrap().push((form, basic));
    let words = rogue.words.lock().unwrap();
    if let Some((status, body)) = &words.tokens {
        return (StatusCode::from_u16(*status).unwrap(), Json(body.clone())).into_response();
    }
    let claims = over(rogue.claims(), &words.claims);
    let id_token = words.id_token.clone().unwrap_or_else(|| rogue.key.sign(&header(), &claims));
    let body = json!({"access_token": "a1", "token_type": "Bearer", "expires_in": 300, "id_token": id_token});
    Json(body).into_response()
}

async fn userinfo(State(rogue): State<Arc<Rogue>>) -> Response {
    let words = rogue.words.lock().unwrap();
    let (status, body) = words.userinfo.clone().unwrap_or((200, json!({"sub": "carol"})));
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// Basic authentication as RFC 6749 §2.3.1 has it.
pub(crate) fn basic() -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(CLIENT_ID), encoded(CLIENT_SECRET));
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

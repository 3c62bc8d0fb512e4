//! The client of the crate `rmcp` for the interop tests, told what to do by lines of JSON on its standard input.
#![expect(clippy::print_stdout, reason = "its standard output is what it says to whoever drives it")]

use std::error::Error;

use rmcp::model::CallToolRequestParams;
use rmcp::service::ClientInitializeError;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{
    AuthClient, AuthorizationManager, AuthorizationRequest, CredentialStore, InMemoryCredentialStore, OAuthState,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ServiceError, ServiceExt};
use serde::Deserialize;
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Told {
    Open(Settings),
    Call,
    Tokens,
    Expire,
}

#[derive(Clone, Default, Deserialize)]
struct Settings {
    url: String,
    redirect_uri: String,
    registered: Option<Registered>,
    document: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Registered {
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
struct Arrived {
    arrived: String,
}

/// One client that speaks with one server.
struct Session {
    settings: Settings,
    store: InMemoryCredentialStore,
    http: Option<AuthClient<reqwest::Client>>,
}

impl Session {
    async fn obey(&mut self, line: &str) -> Result<Value, Failure> {
        match serde_json::from_str(line)? {
            Told::Open(settings) => {
                (self.settings, self.store, self.http) = (settings, InMemoryCredentialStore::new(), None);
                Ok(Value::Null)
            }
            Told::Call => self.call().await.map(Value::from),
            Told::Tokens => self.tokens().await,
            Told::Expire => self.expire().await,
        }
    }

    /// Calls the tool, signing in first if the server asks for it.
    async fn call(&mut self) -> Result<String, Failure> {
        let http = match &self.http {
            Some(http) => http.clone(),
            None => AuthClient::new(http()?, self.manager().await?),
        };
        match self.whoami(http).await {
            Err(error) => match challenge(&*error) {
                Some(challenge) => {
                    let http = self.sign_in(challenge).await?;
                    self.http = Some(http.clone());
                    self.whoami(http).await
                }
                None => Err(error),
            },
            said => said,
        }
    }

    async fn whoami(&self, http: AuthClient<reqwest::Client>) -> Result<String, Failure> {
        let config = StreamableHttpClientTransportConfig::with_uri(self.settings.url.as_str());
        let client = ().serve(StreamableHttpClientTransport::with_client(http, config)).await?;
        let result = client.call_tool(CallToolRequestParams::new("whoami")).await;
        client.cancel().await?;
        let texts = result?.content;
        Ok(texts.iter().filter_map(|part| part.as_text()).map(|part| part.text.as_str()).collect())
    }

    async fn manager(&self) -> Result<AuthorizationManager, Failure> {
        let mut manager = AuthorizationManager::new(self.settings.url.as_str()).await?;
        manager.set_credential_store(self.store.clone());
        Ok(manager)
    }

    async fn sign_in(&mut self, challenge: String) -> Result<AuthClient<reqwest::Client>, Failure> {
        let mut request = AuthorizationRequest::new(&self.settings.redirect_uri)
            .with_client_name("rmcp client")
            .with_challenge(challenge);
        if let Some(registered) = &self.settings.registered {
            request =
                request.with_preregistered_client(&registered.client_id).with_client_secret(&registered.client_secret);
        }
        if let Some(document) = &self.settings.document {
            request = request.with_client_metadata_url(document);
        } else if let (None, Some(stored)) = (&self.settings.registered, self.store.load().await?) {
            // It has registered before, and is known by that.
            request = request.with_preregistered_client(stored.client_id);
        }
        let mut state = OAuthState::Unauthorized(self.manager().await?);
        state.start_authorization(request).await?;
        say(&json!({"open": state.get_authorization_url().await?}));
        let line = heard()?.ok_or("nobody said where the browser arrived")?;
        let Arrived { arrived } = serde_json::from_str(&line)?;
        state.handle_callback_url(&arrived).await?;
        let manager = state.into_authorization_manager().ok_or("the sign-in did not end")?;
        Ok(AuthClient::new(http()?, manager))
    }

    /// What it holds.
    async fn tokens(&self) -> Result<Value, Failure> {
        let held = self.store.load().await?.and_then(|stored| stored.token_response);
        Ok(held.map_or_else(|| Ok(json!({})), serde_json::to_value)?)
    }

    /// The package refreshes what was received too long ago.
    async fn expire(&self) -> Result<Value, Failure> {
        let mut stored = self.store.load().await?.ok_or("it holds no tokens")?;
        stored.token_received_at = Some(0);
        self.store.save(stored).await?;
        Ok(Value::Null)
    }
}

/// The server's challenge, when that is why something failed.
fn challenge(error: &(dyn Error + 'static)) -> Option<String> {
    let connecting = error.downcast_ref::<ClientInitializeError>().and_then(ClientInitializeError::auth_challenge);
    let calling = error.downcast_ref::<ServiceError>().and_then(ServiceError::auth_challenge);
    connecting.or(calling).map(str::to_owned)
}

/// The package's own redirects and time-outs are for it to say.
fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build()
}

fn say(said: &Value) {
    println!("{said}");
}

/// The next line of whoever drives; `None` when there are no more.
fn heard() -> std::io::Result<Option<String>> {
    tokio::task::block_in_place(|| std::io::stdin().lines().next().transpose())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut session = Session { settings: Settings::default(), store: InMemoryCredentialStore::new(), http: None };
    while let Some(line) = heard()? {
        match session.obey(&line).await {
            Ok(done) => say(&json!({"done": done})),
            Err(error) => say(&json!({"failed": format!("{error}\n{error:?}")})),
        }
    }
    Ok(())
}

//! A client's metadata under the names of RFC 7591 §2, as it is stored and as it is told.

use serde_json::{Map, Value};

use super::metadata::{ApplicationType, ClientMetadata, GrantType, Keys};
use crate::types::alg::Alg;

/// What a client said about itself, as far as it counts here. What it did not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ClientMetadata)]
pub struct Described {
    /// For people. Anybody may claim any name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// Where people are sent back to.
    pub redirect_uris: Vec<String>,
    /// How it gets tokens.
    pub grant_types: Vec<String>,
    /// `code`, if people sign in for it.
    pub response_types: Vec<String>,
    /// `none`, `client_secret_basic`, `client_secret_post` or `private_key_jwt`.
    pub token_endpoint_auth_method: String,
    /// What its assertions are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_signing_alg: Option<String>,
    /// `native` or `web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_type: Option<String>,
    /// Its public keys (RFC 7517 §5).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub jwks: Option<Value>,
    /// Where its public keys are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The scopes that it may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Its home page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// Its terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// What it does with data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// It never uses a token without a proof of possession (RFC 9449 §5.2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dpop_bound_access_tokens: bool,
}

impl From<&ClientMetadata> for Described {
    fn from(client: &ClientMetadata) -> Self {
        let code = client.grant_types.contains(&GrantType::AuthorizationCode);
        let (jwks, jwks_uri) = match &client.keys {
            Some(Keys::Inline(set)) => (serde_json::from_str(set).ok(), None),
            Some(Keys::At(url)) => (None, Some(url.to_string())),
            None => (None, None),
        };
        Self {
            client_name: client.client_name.clone(),
            redirect_uris: client.redirect_uris.clone(),
            grant_types: client.grant_types.iter().map(|grant| grant.as_str().to_owned()).collect(),
            response_types: if code { vec!["code".to_owned()] } else { Vec::new() },
            token_endpoint_auth_method: client.auth_method.as_str().to_owned(),
            token_endpoint_auth_signing_alg: client.auth_signing_alg.map(Alg::as_str).map(str::to_owned),
            application_type: client.application_type.map(ApplicationType::as_str).map(str::to_owned),
            jwks,
            jwks_uri,
            scope: client.scope.clone(),
            client_uri: client.client_uri.clone(),
            logo_uri: client.logo_uri.clone(),
            tos_uri: client.tos_uri.clone(),
            policy_uri: client.policy_uri.clone(),
            dpop_bound_access_tokens: client.dpop_bound_access_tokens,
        }
    }
}

impl Described {
    /// Its members, as they are stored and read again. None is null.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        }
    }
}

//! A client's key, and the proofs that are made with it (RFC 9449).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use mcp_authority::types::opaque;
use reqwest::Method;
use serde_json::{Value, json};

use super::jwt::{assemble, encode};
use super::node::PUBLIC_URL;
use super::people::{Code, Person};
use super::{Node, Reply};

/// Whoever has a key.
pub struct Prover(Ed25519KeyPair);

impl Prover {
    pub fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("a key"))
    }

    pub fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.0.public_key())})
    }

    /// RFC 7638 §3, for the one kind of key that there is here.
    pub fn jkt(&self) -> String {
        let x = encode(self.0.public_key());
        encode(opaque::sha256(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
    }

    pub fn claims(node: &Node, path: &str) -> Value {
        let jti = uuid::Uuid::new_v4().to_string();
        json!({"jti": jti, "htm": "POST", "htu": format!("{PUBLIC_URL}{path}"), "iat": node.app.live.now().seconds()})
    }

    /// A proof with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": self.jwk()});
        assemble(&header, claims, |text| self.0.sign(text).as_ref().to_vec())
    }

    /// A proof that is good for one request at the token endpoint.
    pub fn proof(&self, node: &Node) -> String {
        self.sign(&Self::claims(node, "/oauth/token"))
    }

    /// The same with a nonce in it.
    pub fn proof_with(&self, node: &Node, nonce: &str) -> String {
        let mut claims = Self::claims(node, "/oauth/token");
        claims["nonce"] = nonce.into();
        self.sign(&claims)
    }

    pub async fn redeem(&self, node: &Node, person: &Person, code: &Code) -> Reply {
        asked(node, &[&self.proof(node)], &of_code(person, code)).await
    }

    pub async fn refresh(&self, node: &Node, person: &Person, token: &str) -> Reply {
        asked(node, &[&self.proof(node)], &of_refresh(person, token)).await
    }
}

/// A request for a token, with these proofs.
pub async fn asked(node: &Node, proofs: &[&str], form: &[(&str, &str)]) -> Reply {
    posted(node, "/oauth/token", proofs, form).await
}

pub async fn posted(node: &Node, path: &str, proofs: &[&str], form: &[(&str, &str)]) -> Reply {
    let request = node.request(Method::POST, path).form(form);
    node.send(proofs.iter().fold(request, |request, proof| request.header("DPoP", *proof))).await
}

pub fn of_code<'a>(person: &'a Person, code: &'a Code) -> [(&'static str, &'a str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", person.client.as_str()),
        ("code", &code.code),
        ("code_verifier", &code.verifier),
    ]
}

pub fn of_refresh<'a>(person: &'a Person, token: &'a str) -> [(&'static str, &'a str); 3] {
    [("grant_type", "refresh_token"), ("client_id", person.client.as_str()), ("refresh_token", token)]
}

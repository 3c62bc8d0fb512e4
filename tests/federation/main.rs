//! Signing in at identity providers: a real OpenID Connect provider, a plain OAuth 2 one, and one that means harm.
#![cfg(test)]

mod browser;
mod forged;
mod github;
mod logout;
mod openid;
mod program;
mod reach;
mod rogue;
mod support;

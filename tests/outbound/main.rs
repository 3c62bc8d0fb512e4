//! What the client for addresses that others name connects to, and what it takes from whom it asks.
#![cfg(test)]

mod clients;
mod documents;
mod replies;
mod ssrf;
mod support;

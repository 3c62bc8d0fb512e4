//! Promises, tested over HTTP against the running service on real PostgreSQL. One file per family of promises.
#![cfg(test)]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

mod support;

mod assertions;
mod attacks;
mod audit;
mod audit_verify;
mod authorize;
mod authorize_pages;
mod authorize_requests;
mod bad_input;
mod causes;
mod client_address;
mod client_documents;
mod clients;
mod examples;
mod exchange;
mod feed;
mod filters;
mod first_steps;
mod forgery;
mod idempotency;
mod introspection;
mod keys;
mod lists;
mod malformed;
mod memory;
mod metadata;
mod model;
mod nodes;
mod oauth_revoke;
mod operators;
mod partitions;
mod people_tokens;
mod plans;
mod problems;
mod providers;
mod refresh;
mod registration;
mod remembered;
mod revocation;
mod roles;
mod rotation;
mod scopes;
mod secret_keys;
mod servers;
mod signing_rotation;
mod stream;
mod stream_faults;
mod stream_told;
mod tenants;
mod tokens;
mod upgrade;
mod users;
mod uses;

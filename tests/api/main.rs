//! Promises, tested over HTTP against the running service on real PostgreSQL. One file per family of promises.
#![cfg(test)]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

mod support;

mod bad_input;
mod filters;
mod first_steps;
mod idempotency;
mod keys;
mod lists;
mod operators;
mod problems;
mod roles;
mod rotation;
mod scopes;
mod servers;
mod tenants;
mod uses;
mod audit;
mod audit_verify;
mod feed;
mod first_steps;
mod nodes;
mod secret_keys;
mod signing_rotation;

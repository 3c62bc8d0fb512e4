//! Promises, tested over HTTP against the running service on real PostgreSQL. One file per family of promises.
#![cfg(test)]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

mod support;

mod audit;
mod audit_verify;
mod feed;
mod first_steps;
mod nodes;
mod secret_keys;
mod signing_rotation;

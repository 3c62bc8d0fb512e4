//! Promises, tested over HTTP against the running service on real PostgreSQL. One file per family of promises.
#![cfg(test)]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

mod support;

mod first_steps;

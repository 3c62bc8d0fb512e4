#![cfg(test)]
//! The listener's promises: certificates replaced while running, slow callers cut, orderly and bounded shutdown.

mod certificates;
mod limits;
mod shutdown;
mod support;

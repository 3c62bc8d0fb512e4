//! The listener's promises: certificates replaced while running, slow callers cut, orderly and bounded shutdown.
#![cfg(test)]

mod certificates;
mod limits;
mod shutdown;
mod support;

//! The proof of revocation: three nodes on one PostgreSQL under load, a fault, and revocations at random moments. What is
//! counted is a request that was sent after the revoke's reply was read and answered "active", on any node.
//!
//! Each fault is met twice. With the protection that answers it nothing may be counted; without it (`types/switches.rs`)
//! something must be, or the test would prove nothing. `TEST_REVOCATIONS` is how many each fault sees (300 unless set),
//! `TEST_SEED` repeats a run, `TEST_REPORT` names a file that gets a line for each storm.
#![cfg(test)]
#![cfg(feature = "switches")]
#![expect(unreachable_pub, reason = "the modules of a test crate are its only users")]

mod batches;
mod caches;
mod clocks;
mod database;
mod faults;
mod fleet;
mod joining;
mod key_life;
mod order;
mod process;
mod rolling;
mod storm;
#[expect(dead_code, unused_imports, reason = "these stories need a part of it")]
#[path = "../api/support/mod.rs"]
mod support;

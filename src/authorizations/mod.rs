//! Authorization requests on their way to a code. Owns `flows`, `flow_steps`, `authorization_requests` and
//! `authorization_codes`.
//!
//! A flow is one request of a client and all that became of it. Its trace is for the operator whom somebody asks why it
//! does not work; it holds no secret.

mod codes;
mod flows;
mod store;

pub use codes::{CODE_SECONDS, Code, NewCode, issue_code, look_at_code, use_code};
pub use flows::{FLOW_STEPS_MAX, step};

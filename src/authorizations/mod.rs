//! Authorization requests on their way to a code. Owns `flows`, `flow_steps`, `authorization_requests`,
//! `authorization_codes` and `device_authorizations`.
//!
//! A flow is one request of a client and all that became of it. Its trace is for the operator whom somebody asks why it
//! does not work; it holds no secret.

mod codes;
pub mod devices;
mod flows;
pub mod request;
mod store;
mod traces;
mod waiting;

pub use codes::{CODE_SECONDS, Code, NewCode, issue_code, look_at_code, use_code};
pub use flows::{FLOW_SECONDS, FLOW_STEPS_MAX, FLOWS_MAX, LAST_STEP, expire, flow_of, of_user, open, step};
pub use request::{Mistake, Prompt, Purpose, Request};
pub use traces::{Filter, Flow, Outcome, Step, Trace, list, trace};
pub use waiting::{
    Departed, PUSHED_SECONDS, REFERENCE_PREFIX, WAITING_SECONDS, Waiting, answered, depart, end, hold, pull, push,
    returned, take_over, waiting,
};

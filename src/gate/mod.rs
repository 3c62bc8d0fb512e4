//! The gate: "is this credential good, and for what?", answered from memory only.
//!
//! It holds no lock, waits for nothing and reads no database. `feed/` keeps its memory current; an answer counts only
//! while the lease that memory was read under runs ([`Live::answer`]).

mod cause;
mod introspect;
mod lease;
mod live;
mod map;
mod memory;
mod principals;
mod revoked;
mod session;
mod things;
mod verified;

pub use cause::Inactive;
pub use introspect::{Active, Asker, Question, Verdict, introspect};
pub use lease::{Position, Round, Stale};
pub use live::{Live, SessionVerifier, SettingsNow, View};
pub use map::Map;
pub use memory::Memory;
pub use principals::{
    KeyCaller, KeyShown, authenticate_key, authenticate_operator, authenticate_server, check_key, recognise_key,
};
pub use revoked::{Cutoff, Revoked, Subject, SubjectKind};
pub use session::{Actor, Ancestor, Claims, check_session, effective_permissions, verify_session};
pub(crate) use session::{algorithm, servers_of};
pub use things::{Agent, Grant, Key, Operator, Role, SecretKeyId, Secrets, Server, Version};
pub use verified::{Verified, VerifiedTokens};

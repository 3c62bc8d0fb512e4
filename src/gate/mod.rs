//! The gate: "is this credential good, and for what?", answered from memory only.
//!
//! It holds no lock, waits for nothing and reads no database. `feed/` keeps its memory current; an answer counts only
//! while the lease that memory was read under runs ([`Live::answer`]).

pub mod arguments;
mod cause;
mod claims;
mod introspect;
mod lease;
mod lineage;
mod live;
mod map;
mod memory;
mod principals;
mod revoked;
mod session;
mod state;
mod things;
mod tools;
mod verified;

pub use cause::Inactive;
pub use claims::{Actor, Ancestor, Claims, Confirmation, Holder};
pub use introspect::{Active, Asker, Question, Verdict, introspect};
pub use lease::{Position, Round, Stale};
pub(crate) use lineage::servers_of;
pub use lineage::{check_holder, effective_permissions, own_permissions};
pub use live::{Live, SessionVerifier, SettingsNow, View};
pub use map::Map;
pub use memory::Memory;
pub use principals::{
    KeyCaller, KeyShown, Recognised, authenticate_key, authenticate_operator, authenticate_server, check_key,
    recognise, recognise_key,
};
pub use revoked::{Cutoff, Revoked, Subject, SubjectKind};
pub(crate) use session::algorithm;
pub use session::{check_session, verify_session};
pub use state::key_state;
pub use things::{
    Agent, Client, Consent, Grant, Key, Operator, Provider, Role, SecretKeyId, Secrets, Server, User, Version,
};
pub use tools::{Tool, ToolSchema, Tools};
pub use verified::{Verified, VerifiedTokens};

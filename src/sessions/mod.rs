//! Session tokens: issued by client credentials or exchange, listed, revoked. Owns `sessions`,
//! `refresh_families` and `refresh_tokens`.
//!
//! `authorise` and `exchange` decide from memory; [`Writer`] makes each token's row durable before anybody sees the token.

mod authorise;
mod bearer;
mod exchange;
pub mod refresh;
mod store;
mod writer;

pub use authorise::{Allowed, Draft, Refusal, Wish, authorise, authorise_allowed, authorise_client, why_refused};
pub use exchange::{ACTORS_MAX, ANCESTORS_MAX, Exchange, exchange};
pub use store::{Filter, Session, drop_spent, expire, find, list};
pub use writer::{QUEUE_MAX, Writer};

//! Session tokens: issued by client credentials or exchange, listed, revoked. Owns `sessions`.
//!
//! `authorise` and `exchange` decide from memory; [`Writer`] makes each token's row durable before anybody sees the token.

mod authorise;
mod exchange;
mod store;
mod writer;

pub use authorise::{Draft, Refusal, Wish, authorise};
pub use exchange::{ACTORS_MAX, ANCESTORS_MAX, Exchange, exchange};
pub use store::{Filter, Session, drop_spent, expire, find, list};
pub use writer::{QUEUE_MAX, Writer};

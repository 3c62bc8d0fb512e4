//! OAuth clients: the applications that ask for tokens on behalf of people, or for themselves. Owns `clients` and
//! `client_assertions`.
//!
//! However a client comes to be known – a metadata document at its own address, a registration, an operator – it ends
//! as one [`metadata::ClientMetadata`], checked by the same rules.

mod application;
pub mod document;
mod keys;
pub mod metadata;
pub mod redirect;
mod store;
mod terms;
#[cfg(test)]
mod tests;
mod wire;

pub use application::{Application, ClientKind, Clients, Unresolved, settle};
pub use wire::Described;

//! The applications that ask for tokens on behalf of people: what they say about themselves, and what we believe.
//!
//! However a client comes to be known – a metadata document at its own address, a registration, an operator – it ends
//! as one [`metadata::ClientMetadata`], checked by the same rules.

pub mod document;
pub mod metadata;
pub mod redirect;
#[cfg(test)]
mod tests;

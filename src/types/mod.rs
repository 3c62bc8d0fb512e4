//! Words that every part of the service uses: ids, secrets, time, permissions. Pure: no I/O, no clock is read but in `clock`.
pub mod alg;
pub mod base62;
pub mod caller;
pub mod clock;
pub mod credential;
pub mod environment;
pub mod id;
pub mod keyring;
pub mod object;
pub mod opaque;
pub mod page;
pub mod patch;
pub mod permission;
pub mod redacted;
pub mod resource;
pub mod switches;
pub mod thumbprint;

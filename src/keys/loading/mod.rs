//! Keys as nodes read them into memory.

mod store;

pub use store::{Joined, Row, load_all, load_some};

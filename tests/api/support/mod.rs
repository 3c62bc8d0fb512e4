//! What the stories need: a database, a running node, and the actors who talk to it.

pub mod actors;
pub mod description;
pub mod cluster;
pub mod node;
pub mod proxy;

pub use actors::Operator;
pub use cluster::TestDb;
pub use node::{Node, Reply};
pub use proxy::{Proxy, Road};

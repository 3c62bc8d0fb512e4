//! What the stories need: a database, a running node, and the actors who talk to it.

pub mod actors;
pub mod browser;
pub mod company;
pub mod description;
pub mod dpop;
pub mod cluster;
pub mod elsewhere;
pub mod keys;
pub mod jwt;
pub mod node;
pub mod people;
pub mod platform;
pub mod proxy;
pub mod receiver;
pub mod seeded;
pub mod smtp;
pub mod sse;
pub mod world;

pub use actors::{Key, Operator, Server, exchange, text};
pub use cluster::TestDb;
pub use elsewhere::Elsewhere;
pub use keys::Signing;
pub use node::{Node, Reply};
pub use proxy::{Proxy, Road};
pub use receiver::{Answer, Got, Receiver};
pub use seeded::Seeded;
pub use smtp::{MailServer, Speaks};
pub use sse::{Event, Stream};
pub use world::World;

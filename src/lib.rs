//! mcp-authority: issues, checks, limits, rotates and revokes the credentials that AI agents use against MCP servers.
//!
//! This list is the architecture. A module may use only what is declared above it; `tests/tidy` holds that.

// Words: ids, secrets, permissions, time. No I/O.
pub mod types;
// The gate: answers from memory only.
pub mod gate;
// The ground.
pub mod config;
pub mod telemetry;
pub mod db;
pub mod outbound;
pub mod refusal;
// The rooms: each owns its tables.
pub mod audit;
pub mod projects;
pub mod settings;
pub mod secrets;
pub mod signing;
pub mod webhooks;
pub mod revocations;
pub mod operators;
pub mod agents;
pub mod grants;
pub mod servers;
pub mod tools;
pub mod roles;
pub mod keys;
pub mod clients;
pub mod proofs;
pub mod providers;
pub mod issuers;
pub mod users;
pub mod authorizations;
pub mod sessions;
pub mod nodes;
pub mod idempotency;
pub mod observations;
// Reports of leaks: of every room whose secrets can be found.
pub mod leaks;
// The feed: changes from PostgreSQL into memory.
pub mod feed;
// The running service.
mod failures;
mod upkeep;
pub mod app;
pub mod jobs;
// The doors.
pub mod http;
// The desk.
pub mod cli;

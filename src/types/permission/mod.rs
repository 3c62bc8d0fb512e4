//! The permission grammar: what a permission is, what it covers, and what each MCP request needs.
//!
//! `permission = "*" | method | method ":" pattern`. The pattern is all that follows the first
//! colon. It is compared, case-sensitively, with `params.name` (tools, prompts) or `params.uri`
//! (resources). A `*` at the very end stands for any rest, also none, also across `/`.
//!
//! Only `tools/call`, `prompts/get` and `resources/read` take a pattern, because only they name one
//! thing. `tools/call:*` is `tools/call`; `*` is every method of the server, also later ones.
//! Nothing is denied by a permission. A set covers a permission only if one member does.
//!
//! | the client sends | it needs |
//! |---|---|
//! | `tools/list`, `prompts/list`, `resources/list`, `resources/templates/list`, `logging/setLevel`, `tasks/get`, `tasks/update`, `tasks/cancel`, `tasks/result`, `tasks/list` | itself |
//! | `tools/call`, `prompts/get`, `resources/read` | itself, with the name or URI |
//! | `resources/subscribe`, `resources/unsubscribe` | `resources/read` of that URI |
//! | `subscriptions/listen` | itself, and `resources/read` of each URI it names |
//! | `completion/complete` | `prompts/get` of `ref.name`, or `resources/read` of `ref.uri` |
//! | `initialize`, `ping`, `server/discover`, `notifications/*` | only an active credential |
//! | anything else | `*` |
//!
//! A permission names only methods that something can need as themselves (first three rows and
//! `subscriptions/listen`). `resources/subscribe` or `ping` as a permission would grant nothing and
//! look as if it did, so they are refused with the reason.
//!
//! **Wire form.** Permissions are OAuth scope tokens (RFC 6749 §3.3). Every byte that such a token
//! cannot hold, and a `*` that belongs to a name, is written `%XX`. Patterns are kept in this form,
//! names are brought into it before they are compared, and nothing is ever decoded.

mod call;
mod grammar;
mod server_scope;
mod set;
#[cfg(test)]
mod tests;
mod wire;

pub use call::Call;
pub use call::Need;
pub use call::Needed;
pub use call::Reference;
pub use call::needed;
pub use grammar::InvalidPermission;
pub use grammar::Permission;
pub use server_scope::InvalidScope;
pub use server_scope::InvalidServerScope;
pub use server_scope::ServerScope;
pub use server_scope::requested;
pub use server_scope::scope_string;
pub use set::InvalidPermissions;
pub use set::Permissions;

/// A permission is at most this many bytes, counted in wire form.
pub const PERMISSION_BYTES_MAX: usize = 512;

/// A grant (and a server's scope) holds at most this many permissions, counted as they were given.
pub const GRANT_PERMISSIONS_MAX: usize = 200;

/// A `scope` is at most this many bytes, in a request and in a token.
pub const SCOPE_BYTES_MAX: usize = 4096;

/// A server has at most this many scopes of its own.
pub const SERVER_SCOPES_MAX: usize = 100;

/// The name of a server's scope is at most this many bytes.
pub const SERVER_SCOPE_NAME_BYTES_MAX: usize = 128;

/// The names of all scopes of one server, with the spaces between them, are at most this many
/// bytes: half of [`SCOPE_BYTES_MAX`], so that a token which has them all can still be issued.
pub const SERVER_SCOPE_NAMES_BYTES_MAX: usize = 2048;

/// The description of a server's scope is at most this many bytes.
pub const SERVER_SCOPE_DESCRIPTION_BYTES_MAX: usize = 500;

/// All scopes of one server together stand for at most this many permissions.
pub const SERVER_SCOPES_PERMISSIONS_MAX: usize = 1000;

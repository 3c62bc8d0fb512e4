//! People, the browsers they are signed in with, and what they allowed. Owns `users`, `user_roles`, `user_checks`, `logins`
//! and `consents`.

mod consents;
mod store;

pub use consents::{agreed, consent};
pub use store::{
    ConsentRow, Row, UserRole, load_all, load_all_consents, load_all_roles, load_some, load_some_consents,
    load_some_roles, permissions_of,
};

//! People, the browsers they are signed in with, and what they allowed. Owns `users`, `user_roles`, `user_checks`, `logins`
//! and `consents`.

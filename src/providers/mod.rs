//! Identity providers that people sign in with. Owns `providers` and `provider_rules`.

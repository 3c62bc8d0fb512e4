//! Authorization requests on their way to a code. Owns `flows`, `flow_steps`, `authorization_requests` and
//! `authorization_codes`.

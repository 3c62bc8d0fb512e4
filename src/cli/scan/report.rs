//! Revokes the keys that were found, each by itself: to hold a key is all that it takes.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::output::talk;
use crate::config::Desk;

/// Where to, and whether really.
pub(super) struct Report {
    client: Client,
    really: bool,
}

impl Report {
    /// # Errors
    ///
    /// `MCPA_URL` is missing or wrong.
    pub(super) fn new(desk: &Desk, really: bool) -> Result<Self, Failure> {
        Ok(Self { client: Client::without_key(desk)?, really })
    }

    /// Returns how many could not be revoked. A key that is dead or unknown there counts as done.
    pub(super) async fn send(&self, keys: &HashMap<(String, String), Zeroizing<String>>) -> usize {
        let mut failed = 0;
        for ((id, _), secret) in keys {
            if !self.really {
                talk(&format!("{id} would be revoked; --yes does it"));
                continue;
            }
            match self.client.post_as(secret, "/v1/keys/self/revoke").await {
                Ok(_) => talk(&format!("{id} is revoked")),
                Err(failure) if failure.code == 4 => talk(&format!("{id} is not a living key there")),
                Err(failure) => {
                    failed += 1;
                    talk(&format!("{id}: {:#}", failure.error));
                }
            }
        }
        failed
    }
}

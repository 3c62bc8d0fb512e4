//! What issuers are asked: where their keys are, and the keys themselves. Operators name them, so they may be where providers
//! may be; what answers is guarded, bounded and kept as theirs is.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use crate::db::Db;
use crate::gate::Live;
use crate::issuers::{ISSUERS_MAX, Issuer, store};
use crate::outbound::{Documents, Outbound, Shape};
use crate::providers::{KeySets, SignedToken, Unusable, UpstreamError, any_enterprise_managed, discovery_of, moment};
use crate::types::clock::BootInstant;

/// Bytes of an issuer's configuration.
const CONFIGURATION_BYTES_MAX: usize = 64 * 1024;
/// For how long it is believed whether assertions count at all: anybody may ask for the metadata, which say so.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// How long the database may take to say so: the metadata are there without it.
const ASKED_FOR_MAX: Duration = Duration::from_secs(1);

/// What an issuer says of itself, as far as it matters here: platforms that sign in nobody say less than a provider must.
struct Configuration {
    issuer: String,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Wire {
    issuer: String,
    jwks_uri: String,
}

impl Configuration {
    fn read(_: &Url, bytes: &[u8]) -> Result<Self, Unusable> {
        let invalid = || Unusable("configuration_invalid");
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| invalid())?;
        Ok(Self { issuer: wire.issuer, jwks_uri: Url::parse(&wire.jwks_uri).map_err(|_| invalid())? })
    }
}

/// Whether assertions of a kind count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Of workloads.
    pub workloads: bool,
    /// Of people, by their provider.
    pub people: bool,
}

/// What asks the issuers. One per node.
pub struct Issuers {
    live: Arc<Live>,
    configurations: Documents<Configuration, Unusable>,
    key_sets: KeySets,
    offered: ArcSwapOption<(BootInstant, Offered)>,
    asking: Mutex<()>,
}

impl Issuers {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(outbound: &Outbound, live: Arc<Live>) -> Self {
        let shape = Shape { bytes_max: CONFIGURATION_BYTES_MAX, count_max: ISSUERS_MAX, read: Configuration::read };
        Self {
            live,
            configurations: Documents::new(outbound.clone(), shape),
            key_sets: KeySets::new(outbound.clone(), ISSUERS_MAX),
            offered: ArcSwapOption::empty(),
            asking: Mutex::new(()),
        }
    }

    /// The claims of a token that this issuer signed.
    ///
    /// # Errors
    ///
    /// It did not, or its keys cannot be had.
    pub async fn claims(&self, issuer: &Issuer, token: &SignedToken<'_>) -> Result<Value, UpstreamError> {
        let url = match &issuer.jwks_uri {
            Some(uri) => Url::parse(uri).map_err(|_| UpstreamError::Misconfigured("endpoint_invalid"))?,
            None => self.discovered(&issuer.issuer).await?,
        };
        self.key_sets.claims(&url, token, self.live.now()).await
    }

    async fn discovered(&self, issuer: &str) -> Result<Url, UpstreamError> {
        let found = self.configurations.get(&discovery_of(issuer)?, moment(self.live.now())).await?;
        // OpenID Connect Discovery §4.3: exactly the same, by its characters.
        if found.issuer != issuer {
            return Err(UpstreamError::Untrusted("issuer_mismatch"));
        }
        Ok(found.jwks_uri.clone())
    }

    /// Whether assertions count, for the metadata; as it was a moment ago, so that asking for them costs no more than that.
    /// While the database cannot answer: as it was. One asks at a time, and nobody waits who knows how it was.
    pub async fn offered(&self, db: &Db) -> Offered {
        if let Some(fresh) = self.known(Some(BootInstant::now())) {
            return fresh;
        }
        let _turn = match (self.asking.try_lock(), self.known(None)) {
            (Ok(turn), _) => turn,
            (Err(_), Some(before)) => return before,
            (Err(_), None) => self.asking.lock().await,
        };
        // Whoever had the turn before us left what it found.
        if let Some(fresh) = self.known(Some(BootInstant::now())) {
            return fresh;
        }
        let offered = match timeout(ASKED_FOR_MAX, ask(db)).await {
            Ok(Ok(offered)) => offered,
            failed => {
                tracing::warn!(?failed, "whether assertions count could not be read");
                self.known(None).unwrap_or_default()
            }
        };
        self.offered.store(Some(Arc::new((BootInstant::now().plus(BELIEVED_FOR), offered))));
        offered
    }

    /// What was found last; with a time, only what is still believed then.
    fn known(&self, now: Option<BootInstant>) -> Option<Offered> {
        let known = self.offered.load();
        let (until, offered) = known.as_deref()?;
        now.is_none_or(|now| now < *until).then_some(*offered)
    }
}

async fn ask(db: &Db) -> crate::db::Result<Offered> {
    let mut connection = db.reads().acquire().await?;
    let workloads = store::any(&mut connection).await?;
    Ok(Offered { workloads, people: any_enterprise_managed(&mut connection).await? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_who_it_is_and_where_the_keys_are() {
        let read = |text: &str| {
            Configuration::read(&"https://a.example".parse().unwrap(), text.as_bytes()).map(|found| found.jwks_uri)
        };
        let found = read(r#"{"issuer":"https://a.example","jwks_uri":"https://a.example/keys","other":1}"#);
        assert_eq!(found.unwrap().as_str(), "https://a.example/keys");
        for wrong in
            ["", "[]", r#"{"issuer":"https://a.example"}"#, r#"{"issuer":"i","jwks_uri":"keys"}"#, r#"{"issuer":7}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

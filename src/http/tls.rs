//! The service's certificate: read from PEM files, replaced while running when they change.
//!
//! TLS 1.2 and 1.3 by rustls with AWS-LC; there is no other TLS library in the program.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// A certificate or key file larger than this is not one.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Room that holds every usual chain or key.
const PEM_BYTES_USUAL: usize = 64 * 1024;

/// The protocols offered, the preferred one first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate cannot be used. No variant holds anything of the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file is larger than any certificate or key.
    #[error("{0} is larger than 1 MiB")]
    TooLarge(PathBuf),
    /// The certificate file has no certificate in PEM form, or a damaged one.
    #[error("{0} holds no readable PEM certificate")]
    NoCertificate(PathBuf),
    /// The key file has no private key in PEM form, or a damaged one.
    #[error("{0} holds no readable PEM private key")]
    NoKey(PathBuf),
    /// The two do not belong together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
}

/// What a look at the files led to.
#[derive(Debug)]
pub enum Reload {
    /// The files are as they were at the last look, good or bad.
    Unchanged,
    /// New connections see the new certificate from now on.
    Replaced,
    /// The files changed into something that cannot be used; the certificate from before stays.
    Refused(TlsError),
}

/// The current certificate of a listener. Clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
    files: Arc<Files>,
    /// The digest of what the last look found; `None` when it could not be read.
    seen: Arc<Mutex<Option<Digest>>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

type Digest = [u8; digest::SHA256_OUTPUT_LEN];

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// The content of both files at one moment.
struct Content {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Tls {
    /// Reads a certificate chain (the service's own first) and its private key. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// A file cannot be read, is not PEM, or the key is not the certificate's.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let content = files.read()?;
        let config = files.config(&content)?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(config)),
            seen: Arc::new(Mutex::new(content.digest())),
            files: Arc::new(files),
        })
    }

    /// What a connection that is accepted now is to use. Each certificate has its own session store, so that nobody
    /// resumes past a replacement.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Looks at the files once and takes them over if they changed and are good. Connections that are open go on.
    pub async fn reload(&self) -> Reload {
        // Held over the reading, so that two looks at once cannot put the older content last.
        let mut seen = self.seen.lock().await;
        let files = Arc::clone(&self.files);
        let looked = tokio::task::spawn_blocking(move || files.read()).await;
        let content = match looked {
            Ok(Ok(content)) => content,
            // Reading goes on at the next look; the runtime is shutting down.
            Err(_) => return Reload::Unchanged,
            Ok(Err(_)) if seen.is_none() => return Reload::Unchanged,
            Ok(Err(error)) => {
                *seen = None;
                return Reload::Refused(error);
            }
        };
        let digest = content.digest();
        if *seen == digest {
            return Reload::Unchanged;
        }
        *seen = digest;
        match self.files.config(&content) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                Reload::Replaced
            }
            Err(error) => Reload::Refused(error),
        }
    }

    /// Looks at the files again and again until `shutdown`, with the pause `every` between two looks. A change is
    /// logged once, whether it could be used or not. Content is compared, not times: those lie on network disks
    /// and for files that are replaced through links.
    pub async fn watch(self, every: Duration, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            match self.reload().await {
                Reload::Unchanged => {}
                Reload::Replaced => tracing::info!(file = %self.files.cert.display(), "certificate replaced"),
                Reload::Refused(error) => {
                    tracing::error!(%error, "the new certificate cannot be used; the one from before stays");
                }
            }
        }
    }
}

impl Files {
    fn read(&self) -> Result<Content, TlsError> {
        Ok(Content { cert: read_bounded(&self.cert)?, key: read_bounded(&self.key)? })
    }

    fn config(&self, content: &Content) -> Result<ServerConfig, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&content.cert)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate(self.cert.clone()))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(self.cert.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|_| TlsError::NoKey(self.key.clone()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

impl Content {
    fn digest(&self) -> Option<Digest> {
        let mut both = digest::Context::new(&digest::SHA256);
        // Each file by its own digest: moving bytes from one to the other must show.
        both.update(digest::digest(&digest::SHA256, &self.cert).as_ref());
        both.update(digest::digest(&digest::SHA256, &self.key).as_ref());
        both.finish().as_ref().try_into().ok()
    }
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { path: path.to_owned(), cause };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Room for any usual file from the start: a buffer that grows leaves copies behind that nobody wipes.
    let mut content = Zeroizing::new(Vec::with_capacity(PEM_BYTES_USUAL));
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > PEM_BYTES_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(content)
}

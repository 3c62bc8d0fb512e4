//! Opens the store that the settings name: a private PostgreSQL, or somebody's; and the secret keys.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use sqlx::postgres::PgConnectOptions;
use zeroize::Zeroizing;

use crate::app::keyring;
use crate::cli::Failure;
use crate::config::Config;
use crate::db::Db;
use crate::db::embedded::{Embedded, Role};
use crate::nodes;
use crate::secrets;
use crate::types::keyring::{Keyring, SECRET_KEY_BYTES};
use crate::types::redacted::Secret;

/// The secret keys of a private database, below the data directory.
pub(crate) const SECRET_KEYS_FILE: &str = "secret.keys";

/// An open store.
pub(crate) struct Store {
    /// The settings, with the secret keys filled in.
    pub(crate) config: Config,
    /// The database.
    pub(crate) db: Db,
    /// The private PostgreSQL, if there is one.
    pub(crate) private: Option<Embedded>,
}

/// Opens it.
///
/// # Errors
///
/// The private PostgreSQL cannot be started, or there are no secret keys for a database that is not private.
pub(crate) async fn open(mut config: Config, role: Role) -> Result<Store, Failure> {
    let (options, private) = if let Some(url) = &config.database_url {
        (connect_options(url)?, None)
    } else {
        let private = Embedded::start(&config.data_dir, role).await?;
        (private.connect_options(), Some(private))
    };
    if config.secret_keys.is_none() {
        let keys = secret_keys(&config.data_dir).context("the secret keys of the private database")?;
        config.secret_keys = Some(keys);
    }
    Ok(Store { config, db: Db::new(options), private })
}

/// How to connect to the database that the settings name.
///
/// # Errors
///
/// The URL cannot be read.
pub(crate) fn connect_options(url: &Secret<String>) -> Result<PgConnectOptions, Failure> {
    PgConnectOptions::from_str(url.reveal()).map_err(|_| {
        // The parser's message may hold the password.
        let text = "MCPA_DATABASE_URL: not a PostgreSQL URL; write postgres://user:password@host/database";
        Failure::new(2, anyhow::anyhow!(text))
    })
}

impl Store {
    /// Brings the schema to this binary's, or checks that it is.
    ///
    /// # Errors
    ///
    /// The database is away, newer than the binary, or older and not to be migrated now.
    pub(crate) async fn migrated(&self, may_migrate: bool) -> Result<(), Failure> {
        let theirs =
            self.db.schema().await.context("the database cannot be reached").map_err(|error| Failure::new(6, error))?;
        let ours = crate::db::schema_of_binary();
        if theirs > ours {
            let text = "the database has schema {theirs}, this release knows {ours}: run the release that made it, or a newer one";
            return Err(Failure::new(
                1,
                anyhow::anyhow!(text.replace("{theirs}", &theirs.to_string()).replace("{ours}", &ours.to_string())),
            ));
        }
        if theirs < ours && !may_migrate {
            return Err(Failure::new(
                1,
                anyhow::anyhow!(
                    "the database has schema {theirs}, this release needs {ours}: run `mcp-authority migrate`"
                ),
            ));
        }
        if theirs < ours {
            self.db.migrate().await.context("the schema could not be brought up to date")?;
        }
        Ok(())
    }

    /// The secret keys, after a check that none is missing that a row needs, and the newest that all nodes know.
    ///
    /// # Errors
    ///
    /// A key is missing.
    pub(crate) async fn keyring(&self) -> Result<(std::sync::Arc<Keyring>, String), Failure> {
        let keyring = keyring(&self.config)?;
        let mut connection = self.db.reads().acquire().await?;
        for secrets::InUse { id, rows, .. } in secrets::secret_keys_in_use(&mut connection).await? {
            if !keyring.knows(&id) {
                let text = format!(
                    "MCPA_SECRET_KEYS lacks the key {id}, which {rows} rows need: put it back at the end of the list"
                );
                return Err(Failure::new(1, anyhow::anyhow!(text)));
            }
        }
        let others = nodes::others(&mut connection).await?;
        let known = |id: &String| others.iter().all(|node| node.secret_keys.contains(id));
        let newest = keyring.ids().into_iter().find(known).context("no secret key is known to all running nodes")?;
        Ok((keyring, newest))
    }

    /// Closes the connections, then stops the private PostgreSQL.
    ///
    /// # Errors
    ///
    /// It does not stop.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.db.close().await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

/// Reads the secret keys of a private database; makes one the first time. Outside of the cluster, mode 0600.
fn secret_keys(data_dir: &Path) -> anyhow::Result<Vec<Secret<[u8; SECRET_KEY_BYTES]>>> {
    let path = data_dir.join(SECRET_KEYS_FILE);
    if !path.exists() {
        let mut key = Zeroizing::new([0_u8; SECRET_KEY_BYTES]);
        rand::rng().fill(&mut key[..]);
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
        // Written beside and renamed, so that a crash leaves the whole key or none.
        let beside = data_dir.join(format!(".{SECRET_KEYS_FILE}.{}", std::process::id()));
        private_file(&beside)?.write_all(text.as_bytes())?;
        File::open(&beside)?.sync_all()?;
        if std::fs::hard_link(&beside, &path).is_ok() {
            File::open(data_dir)?.sync_all()?;
        }
        std::fs::remove_file(&beside)?;
    }
    read_secret_keys(&path)
}

/// The secret keys that a file holds, the sealing one first.
///
/// # Errors
///
/// It cannot be read, or holds something else.
pub(crate) fn read_secret_keys(path: &Path) -> anyhow::Result<Vec<Secret<[u8; SECRET_KEY_BYTES]>>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.read_to_string(&mut text)?;
    let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<_>> = lines
        .map(|line| {
            let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
            Some(Secret::new(<[u8; SECRET_KEY_BYTES]>::try_from(bytes.as_slice()).ok()?))
        })
        .collect();
    keys.filter(|keys| !keys.is_empty()).with_context(|| format!("{} holds no base64 keys of 32 bytes", path.display()))
}

/// A new file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

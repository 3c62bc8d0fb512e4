//! `doctor` on the machine itself: settings, data directory, certificate, and who else listens.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::support::{Diagnosis, Private, Settings, settings, with};

#[test]
fn all_mistakes_of_the_settings_are_listed() {
    let wrong = [
        ("MCPA_LISTEN", "here"),
        ("MCPA_MIGRATE", "maybe"),
        ("MCPA_DATABASE_URI", "x"),
        ("MCPA_SECRET_KEYS", "canary"),
    ];
    let diagnosis = Diagnosis::of(&settings(&wrong));
    for (name, _) in wrong {
        diagnosis.says("settings", "failure", &[name]);
    }
    diagnosis.says("settings", "failure", &["Did you mean MCPA_DATABASE_URL?"]);
    assert!(!diagnosis.document.to_string().contains("canary"), "{:#}", diagnosis.document);
}

#[test]
fn a_data_directory_that_is_too_open_is_found() {
    let private = Private::new();
    fs::create_dir(private.data()).unwrap();
    fs::set_permissions(private.data(), Permissions::from_mode(0o750)).unwrap();
    let fix = format!("chmod go= '{}'", private.data().display());
    Diagnosis::of(&private.settings).says("data_directory", "failure", &[&fix]);
    fs::set_permissions(private.data(), Permissions::from_mode(0o700)).unwrap();
    Diagnosis::of(&private.settings).says("data_directory", "ok", &[]);
    let keys = private.data().join("secret.keys");
    fs::write(&keys, "x").unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o644)).unwrap();
    Diagnosis::of(&private.settings).says("data_directory", "failure", &["secret.keys"]);
}

/// Settings with a certificate that ends so many days from now, and perhaps another's key.
fn certified(dir: &Path, base: &Settings, days: i64, fitting: bool) -> Settings {
    let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = now() + Duration::days(days) + Duration::hours(1);
    let pair = KeyPair::generate().unwrap();
    fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
    let other = KeyPair::generate().unwrap();
    fs::write(&key, if fitting { pair } else { other }.serialize_pem()).unwrap();
    with(base, &[("MCPA_TLS_CERT", cert.to_str().unwrap()), ("MCPA_TLS_KEY", key.to_str().unwrap())])
}

#[expect(clippy::disallowed_methods, reason = "the program compares with the machine's clock")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[test]
fn a_certificate_that_ends_soon_ended_or_is_another_keys_is_found() {
    let private = Private::new();
    let dir = private.dir.path();
    Diagnosis::of(&certified(dir, &private.settings, 60, true)).says("certificate", "ok", &["60 days"]);
    Diagnosis::of(&certified(dir, &private.settings, 13, true)).says(
        "certificate",
        "warning",
        &["in 13 days", "new certificate"],
    );
    Diagnosis::of(&certified(dir, &private.settings, -2, true)).says("certificate", "failure", &["ended on"]);
    let unfit = Diagnosis::of(&certified(dir, &private.settings, 60, false));
    unfit.says("certificate", "failure", &["cannot be used together", "the key that belongs to it"]);
}

#[tokio::test]
async fn another_program_on_the_port_is_found() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let private = Private::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 4096]).await;
            let _ =
                connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
        }
    };
    let settings = with(&private.settings, &[("MCPA_LISTEN", &address)]);
    let looking = tokio::task::spawn_blocking(move || Diagnosis::of(&settings));
    let diagnosis = tokio::select! {
        () = answering => unreachable!("it answers for ever"),
        diagnosis = looking => diagnosis.unwrap(),
    };
    diagnosis.says("service", "failure", &["something else answers", "another MCPA_LISTEN"]);
}

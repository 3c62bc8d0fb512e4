//! A mail server on this machine that speaks enough SMTP (RFC 5321) to take mail, over STARTTLS or TLS from the start if it is
//! told so; it keeps what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Not at all, and it offers nothing else.
    Plain,
    /// After STARTTLS; before that it takes nothing.
    StartTls,
    /// From the start.
    Tls,
}

/// A mail that was taken.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    pub data: String,
    pub over_tls: bool,
    pub login: Option<String>,
}

#[derive(Default)]
struct Desk {
    got: Vec<Mail>,
    refuses: bool,
}

/// The mail server.
pub struct MailServer {
    pub address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    files: TempDir,
    _stop: DropGuard,
}

impl MailServer {
    pub async fn start(speaks: Speaks) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let acceptor = certify(&files);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (desk, stop, tasks) = (Arc::<Mutex<Desk>>::default(), CancellationToken::new(), TaskTracker::new());
        let (kept, stopped) = (Arc::clone(&desk), stop.clone());
        tasks.clone().spawn(async move {
            while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let session = Session { desk: Arc::clone(&kept), acceptor: acceptor.clone(), speaks };
                tasks.spawn(session.run(stream));
            }
        });
        Self { address, desk, files, _stop: stop.drop_guard() }
    }

    /// The file of the authority that vouches for it.
    pub fn ca(&self) -> String {
        self.files.path().join("ca.pem").display().to_string()
    }

    pub fn got(&self) -> Vec<Mail> {
        self.desk.lock().expect("the desk").got.clone()
    }

    /// Whether it says "try later" to all mail.
    pub fn refuses(&self, refuses: bool) {
        self.desk.lock().expect("the desk").refuses = refuses;
    }
}

struct Session {
    desk: Arc<Mutex<Desk>>,
    acceptor: TlsAcceptor,
    speaks: Speaks,
}

impl Session {
    async fn run(self, stream: TcpStream) {
        if self.speaks == Speaks::Tls {
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.talk(stream, true, true).await;
            }
        } else if let Some(stream) = self.talk(stream, false, true).await
            && let Ok(stream) = self.acceptor.accept(stream).await
        {
            self.talk(stream, true, false).await;
        }
    }

    /// One dialogue. Gives the stream back when TLS is to be spoken from here on.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, over_tls: bool, greets: bool) -> Option<S> {
        let mut stream = BufReader::new(stream);
        let starts = self.speaks == Speaks::StartTls && !over_tls;
        if greets {
            stream.write_all(b"220 mail.example.com\r\n").await.ok()?;
        }
        let mut mail = Mail { over_tls, ..Mail::default() };
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let (verb, rest) = (line.get(..4).unwrap_or_default().to_ascii_uppercase(), line.trim_end().to_owned());
            let reply = match verb.as_str() {
                "EHLO" if starts => "250-mail.example.com\r\n250 STARTTLS",
                "EHLO" => "250-mail.example.com\r\n250 AUTH PLAIN",
                "STAR" if starts => {
                    stream.write_all(b"220 go\r\n").await.ok()?;
                    return Some(stream.into_inner());
                }
                "QUIT" => {
                    let _ = stream.write_all(b"221 bye\r\n").await;
                    return None;
                }
                _ if starts => "530 STARTTLS first",
                "AUTH" => {
                    mail.login = rest.rsplit(' ').next().map(str::to_owned);
                    "235 welcome"
                }
                "MAIL" if self.desk.lock().expect("the desk").refuses => "451 try later",
                "MAIL" => {
                    mail.from = rest;
                    "250 ok"
                }
                "RCPT" => {
                    mail.to.push(rest);
                    "250 ok"
                }
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await.ok()?;
                    mail.data = data(&mut stream).await?;
                    self.desk.lock().expect("the desk").got.push(mail.clone());
                    "250 taken"
                }
                _ => "500 what",
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
        }
    }
}

/// Until a line that is a dot.
async fn data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut data = String::new();
    loop {
        let begin = data.len();
        if stream.read_line(&mut data).await.ok()? == 0 {
            return None;
        }
        if data[begin..].trim_end() == "." {
            data.truncate(begin);
            return Some(data);
        }
    }
}

fn certify(files: &TempDir) -> TlsAcceptor {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(files.path().join("ca.pem"), ca.self_signed(&ca_key).expect("signed").pem()).expect("written");
    let key = KeyPair::generate().expect("a key");
    let cert = CertificateParams::new(vec!["localhost".to_owned()])
        .expect("names")
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .expect("signed");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

//! `serve` and `migrate`: the running service, from its start to its end.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Running, VERSION};
use crate::cli::Failure;
use crate::cli::store::{Store, open, private_file};
use crate::config::Config;
use crate::db::embedded::{Embedded, Role};
use crate::db::partitions;
use crate::http;
use crate::http::listen::{Limits, serve};
use crate::http::tls::Tls;
use crate::jobs;
use crate::operators::{self, NewOperator};
use crate::secrets::Sealing;
use crate::signing::{self, Purpose};
use crate::telemetry;
use crate::types::alg::Alg;
use crate::types::caller::{Caller, EVERYTHING};
use crate::types::credential::Credential;

/// The first operator's key, where there is no terminal to show it on.
const OPERATOR_KEY_FILE: &str = "operator.key";
const CERTIFICATE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the first round may take before the service says that it waits.
const FIRST_ROUND_SECONDS_MAX: Duration = Duration::from_secs(30);

pub(super) async fn migrate(config: Config) -> Result<(), Failure> {
    let store = open(config, Role::Command).await?;
    let done = store.migrated(true).await;
    store.close().await?;
    done
}

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    telemetry::init(&config.log)?;
    raise_open_files();
    let store = open(config, Role::Service).await?;
    let prepared = match prepare(&store).await {
        Ok(()) => bind(&store.config).await,
        Err(failure) => Err(failure),
    };
    let Store { config, db, mut private } = store;
    let served = match prepared {
        Ok(listeners) => answer(config, db.clone(), listeners, private.as_mut()).await,
        Err(failure) => Err(failure),
    };
    db.close().await;
    if let Some(private) = private {
        private.stop().await?;
    }
    served
}

/// Schema, secret keys, signing keys, and on a private database the first operator.
async fn prepare(store: &Store) -> Result<(), Failure> {
    store.migrated(store.config.migrate).await?;
    partitions::ahead_at_start(&store.db).await?;
    let (keyring, secret_key) = store.keyring().await?;
    let sealing = Sealing { keyring: &keyring, secret_key: &secret_key };
    let mut tx = store.db.begin().await?;
    for purpose in [Purpose::Session, Purpose::Checkpoint] {
        signing::ensure(&mut tx, sealing, purpose, Alg::EdDsa).await?;
    }
    crate::db::commit(tx).await?;
    if store.private.is_some() && !operators::any(&mut *store.db.reads().acquire().await?).await? {
        first_operator(store, sealing).await?;
    }
    Ok(())
}

/// The key is shown, or in its file, before the operator is committed: a crash between leaves a key that opens nothing,
/// never an operator without a key.
async fn first_operator(store: &Store, sealing: Sealing<'_>) -> Result<(), Failure> {
    let new = NewOperator {
        name: "first operator".to_owned(),
        scopes: vec![EVERYTHING.to_owned()],
        projects: None,
        expires_in_days: None,
        allowed_cidrs: None,
    };
    let path = store.config.data_dir.join(OPERATOR_KEY_FILE);
    let keep = |credential: &Credential| {
        let mut out = std::io::stdout();
        if out.is_terminal() {
            return writeln!(out, "{}", welcome(&store.config, credential.reveal()));
        }
        // Standard output is somebody's log here.
        let _ = std::fs::remove_file(&path);
        let mut file = private_file(&path)?;
        writeln!(file, "{}", credential.reveal())?;
        file.sync_all()
    };
    let _ = operators::create_after(&store.db, sealing, &Caller::machine(), new, keep).await?;
    if path.exists() {
        writeln!(std::io::stderr(), "the first operator's key is in {}", path.display())?;
    }
    Ok(())
}

fn welcome(config: &Config, key: &str) -> String {
    let url = &config.public_url;
    let call = format!("curl -s -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'");
    format!(
        "\nThe first operator's key, shown this once:\n\n  {key}\n\nThe API is described at {url}/docs. Three lines to begin:\n\n\
         {call} {url}/v1/servers -d '{{\"name\":\"files\",\"resource\":\"https://files.example.com/mcp\"}}'\n\
         {call} {url}/v1/agents -d '{{\"name\":\"researcher\"}}'\n\
         {call} {url}/v1/keys -d '{{\"agent_id\":\"agt_…\",\"environment\":\"prod\",\"grants\":[{{\"server_id\":\"srv_…\",\"permissions\":[\"tools/call\"]}}]}}'\n"
    )
}

/// The sockets are opened before anything is promised: a port in use ends the start.
struct Listeners {
    main: TcpListener,
    metrics: Option<TcpListener>,
    tls: Option<Tls>,
}

async fn bind(config: &Config) -> Result<Listeners, Failure> {
    let open = async |address: SocketAddr, name: &str| {
        TcpListener::bind(address).await.with_context(|| format!("{name} {address} cannot be listened on"))
    };
    let main = open(config.listen, "MCPA_LISTEN").await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(open(address, "MCPA_METRICS_LISTEN").await?),
        None => None,
    };
    let tls = match &config.tls {
        Some(files) => Some(Tls::load(&files.cert, &files.key)?),
        None => None,
    };
    Ok(Listeners { main, metrics, tls })
}

async fn answer(
    config: Config,
    db: crate::db::Db,
    listeners: Listeners,
    private: Option<&mut Embedded>,
) -> Result<(), Failure> {
    // Before anything answers: who sees this node ready may stop it at once, and it ends in order.
    let signals = Signals::watched()?;
    let (address, grace) = (listeners.main.local_addr()?, config.shutdown);
    let running = Running::start(config, db, &address.to_string())?;
    let app = Arc::clone(&running.app);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    jobs::start(&app, &tasks, &stop);
    let limits = Limits::with_grace(grace);
    tasks.spawn(serve(listeners.main, listeners.tls.clone(), http::service(&app), stop.clone(), limits));
    if let Some(listener) = listeners.metrics {
        tasks.spawn(serve(listener, listeners.tls.clone(), http::metrics_router(&app), stop.clone(), limits));
    }
    if let Some(tls) = listeners.tls.clone() {
        let stop = stop.clone();
        tasks.spawn(async move { tls.watch(CERTIFICATE_LOOK_EVERY, stop).await });
    }
    tasks.spawn({
        let (app, stop) = (Arc::clone(&app), stop.clone());
        async move { stop.run_until_cancelled(announce(&app, address)).await }
    });
    let ended = until_stopped(signals, private, &app).await;
    tracing::info!("stopping: no new requests, running ones may end");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drop(app);
    running.stop().await;
    ended
}

/// Says that the service answers, once it does.
async fn announce(app: &App, address: SocketAddr) {
    let began = std::time::Instant::now();
    while app.live.answer(|_| ()).is_err() && !app.feed.is_dead() && began.elapsed() < FIRST_ROUND_SECONDS_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let url = app.config.public_url.to_string();
    if app.live.answer(|_| ()).is_ok() {
        tracing::info!(%address, url, version = VERSION, "serving");
    } else {
        tracing::warn!(%address, url, version = VERSION, "serving, but this node cannot prove yet that it is current");
    }
}

/// The signals that end the service. One that arrives before they are watched ends the process as it stands; one that
/// arrives later is kept until it is asked for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watched() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// Until a signal; a private PostgreSQL that dies meanwhile is started again.
async fn until_stopped(mut signals: Signals, mut private: Option<&mut Embedded>, app: &App) -> Result<(), Failure> {
    loop {
        let died = async {
            match private.as_deref_mut() {
                Some(private) => private.exited().await.map(|status| status.to_string()),
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            _ = signals.terminate.recv() => {
                drain(app, &mut signals).await;
                return Ok(());
            }
            _ = signals.interrupt.recv() => return Ok(()),
            died = died => died?,
        };
        tracing::error!(status, "the private PostgreSQL ended by itself; it is started again");
        if let Some(private) = private.as_deref_mut() {
            private.restart().await?;
        }
    }
}

/// Readiness says that this node goes, and requests are taken for a while longer, so that a load balancer has looked
/// before a connection is refused. A second signal ends the wait.
async fn drain(app: &App, signals: &mut Signals) {
    app.draining.store(true, Ordering::Relaxed);
    if !app.config.drain.is_zero() {
        tracing::info!(seconds = app.config.drain.as_secs(), "readiness says no; requests are still taken");
    }
    tokio::select! {
        () = tokio::time::sleep(app.config.drain) => {}
        _ = signals.terminate.recv() => {}
        _ = signals.interrupt.recv() => {}
    }
}

/// As many open files as the system allows: each connection is one.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

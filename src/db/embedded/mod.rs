//! The private PostgreSQL: a real cluster below the data directory, started and stopped with the service.
//!
//! It listens on a Unix socket only, its passwords are random and lie in files of the service's user, and it keeps
//! everything that was committed. Below the data directory (0700):
//!
//! | Name | What |
//! |---|---|
//! | `service.lock` | who runs the cluster, see [`Role`] |
//! | `cluster/` | PostgreSQL's own files, of the user that runs it |
//! | `postgres.password`, `postgres.superuser.password` | of the application's role, of the superuser |
//! | `postgres.socket` | where the running cluster listens; gone when it does not run |
//! | `postgres.log`, `postgres.log.1` | what PostgreSQL says; set aside when larger than 16 MiB |
//!
//! One process owns the cluster (`lock`), clears what a killed owner left (`leftovers`), makes the files when there are
//! none (`cluster`), and starts the server (`launch`, `socket`, `postmaster`). As root the server runs as somebody else
//! (`user`), even when that user cannot walk to the data directory.

mod access;
mod cluster;
mod error;
mod home;
mod launch;
mod leftovers;
mod lock;
mod postmaster;
mod processes;
mod programs;
mod socket;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep};

pub use self::error::Error;
use self::home::{Home, Password};
use self::launch::{Launch, Profile};
pub use self::lock::Role;
use self::lock::{Lock, Record};
use self::postmaster::Postmaster;
pub use self::programs::{Programs, choose, find_programs, programs_in};
use self::socket::SocketDir;

/// How long a command waits for a service that is starting, and anybody for a command that runs the cluster.
const TURN_SECONDS_MAX: u64 = 60;
/// How often the lock is looked at meanwhile.
const TURN_POLL: Duration = Duration::from_millis(50);

/// A private cluster that runs and accepts connections.
///
/// Dropped without [`Embedded::stop`], an owned cluster is told to shut down but not waited for; the next start waits.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    password: Password,
    /// `None`: the cluster belongs to a running service.
    owned: Option<Owned>,
}

/// A cluster this process started. The fields drop in this order: the server is told to stop before the lock goes.
#[derive(Debug)]
struct Owned {
    postmaster: Postmaster,
    launch: Launch,
    socket: SocketDir,
    lock: Lock,
}

impl Embedded {
    /// Returns when the cluster below `data_dir` accepts connections; makes the directory, the cluster, the role and
    /// the database `authority` when they are missing, and recovers from a killed predecessor.
    ///
    /// # Errors
    /// [`Error::Running`] for a second service on the directory; [`Error::Busy`] when another process does not make
    /// room in time; the others say what is missing or wrong with the directory, the programs or the cluster.
    pub async fn start(data_dir: &Path, role: Role) -> Result<Self, Error> {
        Self::begin(data_dir, role, Profile::Durable).await
    }

    /// The same as a service, for tests: not safe against a crash of the machine, 300 connections instead of 200, and
    /// the role may create databases.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub async fn start_throwaway(data_dir: &Path) -> Result<Self, Error> {
        Self::begin(data_dir, Role::Service, Profile::Throwaway).await
    }

    async fn begin(data_dir: &Path, role: Role, profile: Profile) -> Result<Self, Error> {
        let home = Home::open(data_dir)?;
        let deadline = Instant::now() + Duration::from_secs(TURN_SECONDS_MAX);
        let mut seen = None;
        loop {
            if let Some(lock) = Lock::try_take(&home, role)? {
                return Self::own(home, lock, profile).await;
            }
            let holder = lock::holder(&home)?;
            let service = holder.as_ref().filter(|holder| holder.role == Role::Service);
            if let (Role::Command, Some(holder)) = (role, service)
                && let Some(guest) = Self::join(&home, holder).await?
            {
                return Ok(guest);
            }
            // Named twice, because at first it may be the name of a holder that has just died.
            if let (Role::Service, Some(holder)) = (role, service)
                && seen.as_ref() == Some(holder)
            {
                return Err(Error::Running { pid: holder.pid, data_dir: home.path().to_owned() });
            }
            if Instant::now() >= deadline {
                let pid = holder.map_or(0, |holder| holder.pid);
                return Err(Error::Busy { pid, data_dir: home.path().to_owned(), seconds: TURN_SECONDS_MAX });
            }
            seen = holder;
            sleep(TURN_POLL).await;
        }
    }

    /// Becomes a guest of a running service; `None` while it is not ready.
    async fn join(home: &Home, holder: &lock::Holder) -> Result<Option<Self>, Error> {
        let Some(record) = Record::read(home)?.filter(|record| record.is_of(holder)) else { return Ok(None) };
        let Some(password) = home.password(access::PASSWORD)? else { return Ok(None) };
        let guest = Self { socket_dir: record.socket_dir.clone(), password, owned: None };
        let Ok(connection) = guest.connect_options().connect().await else { return Ok(None) };
        connection.close().await?;
        // The file may have named a holder that had just died, and this connection may have been to its leftover:
        // a new holder writes its own name at once, so the names are compared again now.
        let unchanged = lock::holder(home)?.as_ref() == Some(holder) && Record::read(home)?.as_ref() == Some(&record);
        Ok(unchanged.then_some(guest))
    }

    async fn own(home: Home, lock: Lock, profile: Profile) -> Result<Self, Error> {
        let cluster = home.cluster();
        let user = user::choose(&cluster)?;
        let major = cluster::major(&cluster)?;
        leftovers::clear(&home).await?;
        let programs = choose(&programs::installed(), major, &cluster)?;
        home.bound_log()?;
        let launch = Launch { home, programs, user, profile };
        if major.is_none() {
            cluster::make(&launch).await?;
        }
        let socket = SocketDir::choose(&launch.home, user)?;
        match Self::serve(&launch, &socket, &lock).await {
            Ok((postmaster, password)) => {
                let socket_dir = socket.path.clone();
                let owned = Owned { postmaster, launch, socket, lock };
                Ok(Self { socket_dir, password, owned: Some(owned) })
            }
            Err(error) => {
                socket.remove()?;
                Record::remove(&launch.home)?;
                Err(error)
            }
        }
    }

    async fn serve(launch: &Launch, socket: &SocketDir, lock: &Lock) -> Result<(Postmaster, Password), Error> {
        // Written before the socket's folder is made, so that a kill at any moment leaves no folder unknown to the next
        // start. Guests that read it now cannot connect yet and ask again.
        lock.publish(&launch.home, &socket.path)?;
        socket.make(launch.user)?;
        let postmaster = Postmaster::start(launch, socket).await?;
        match access::ensure(&launch.home, &socket.path, launch.profile).await {
            Ok(password) => Ok((postmaster, password)),
            Err(error) => {
                postmaster.stop().await?;
                Err(error)
            }
        }
    }

    /// How to connect as the application's role. Valid until the cluster stops, and again after
    /// [`Embedded::restart`].
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        access::application(&self.socket_dir, &self.password)
    }

    /// The process id of the server this process started; `None` for a guest of a running service.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.owned.as_ref().map(|owned| owned.postmaster.pid())
    }

    /// Returns when the server that this process started has ended by itself, for example because it was killed; for
    /// a guest it never returns.
    ///
    /// # Errors
    /// The system does not tell.
    pub async fn exited(&mut self) -> std::io::Result<ExitStatus> {
        match &mut self.owned {
            Some(owned) => owned.postmaster.exited().await,
            None => std::future::pending().await,
        }
    }

    /// Starts the server again after it has ended, at the same place, so that pools made from
    /// [`Embedded::connect_options`] find it. Ends what is left of it first. Does nothing for a guest.
    ///
    /// # Errors
    /// As [`Embedded::start`]; the lock is still held, and this may be tried again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        let Some(owned) = &mut self.owned else { return Ok(()) };
        leftovers::end(&owned.launch.home.cluster()).await?;
        socket::clear(&owned.socket.path)?;
        owned.socket.make(owned.launch.user)?;
        owned.postmaster = Postmaster::start(&owned.launch, &owned.socket).await?;
        Ok(())
    }

    /// Sets PostgreSQL's log aside when it is larger than 16 MiB, as every start does; for a job of a service that runs
    /// for long. Does nothing for a guest.
    ///
    /// # Errors
    /// The log cannot be copied or emptied.
    pub fn bound_log(&self) -> Result<(), Error> {
        self.owned.as_ref().map_or(Ok(()), |owned| owned.launch.home.bound_log())
    }

    /// Stops the cluster that this process started: fast, and after 30 s immediately. A guest leaves it alone.
    ///
    /// # Errors
    /// The server cannot be ended or its files cannot be removed; the next start tries again.
    pub async fn stop(self) -> Result<(), Error> {
        let Some(Owned { postmaster, launch, socket, lock }) = self.owned else { return Ok(()) };
        let home = &launch.home;
        postmaster.stop().await?;
        socket.remove()?;
        Record::remove(home)?;
        drop(lock);
        Ok(())
    }
}

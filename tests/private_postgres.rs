//! The private PostgreSQL: made closed, keeps what was committed, recovers from every kill, refuses what is unsafe.
//!
//! As root every test runs twice: as root, and – through `the_same_holds_for_an_ordinary_user` – as `nobody`.
#![cfg(test)]

#[path = "private_postgres/support.rs"]
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mcp_authority::db::embedded::{Embedded, Error, Programs, Role, choose, find_programs, programs_in};
use rustix::process::geteuid;
use sqlx::{ConnectOptions, Connection, Executor};

use self::support::{NOBODY, SERVICE_DIR, Service, alive, kept, kill, remember, scratch, socket_dir, text, until};

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the variable is the test's own")]
async fn plays_a_service() {
    let Some(data) = std::env::var_os(SERVICE_DIR).map(PathBuf::from) else {
        return;
    };
    let db = Embedded::start(&data, Role::Service).await.unwrap();
    remember(&db, "service").await;
    fs::write(data.join("ready"), format!("{}\n", db.postmaster_pid().unwrap())).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn the_same_holds_for_an_ordinary_user() {
    if !geteuid().is_root() {
        return;
    }
    // A copy, because the build's own folder may be closed to that user.
    let dir = scratch();
    let program = dir.path().join("private_postgres");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&program).current_dir("/").env_remove("TMPDIR").uid(NOBODY).gid(NOBODY).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("test result: ok"), "{said}");
}

#[tokio::test]
async fn a_first_start_makes_a_closed_and_durable_cluster() {
    let dir = scratch();
    let data = dir.path().join("made/by/us");
    let db = Embedded::start(&data, Role::Service).await.unwrap();
    for (setting, value) in [
        ("select current_setting('listen_addresses')", ""),
        ("select current_setting('fsync')", "on"),
        ("select current_setting('full_page_writes')", "on"),
        ("select current_setting('synchronous_commit')", "on"),
        ("select current_setting('data_checksums')", "on"),
        ("select current_setting('server_encoding')", "UTF8"),
        ("select current_setting('max_connections')", "200"),
        ("select current_setting('unix_socket_permissions')", "0700"),
        ("select current_user::text", "authority"),
        (
            "select rolsuper::text || rolcreatedb || rolcreaterole from pg_roles where rolname = current_user",
            "falsefalsefalse",
        ),
        ("select datcollate::text from pg_database where datname = current_database()", "C"),
    ] {
        assert_eq!(text(&db, setting).await, value, "{setting}");
    }
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode(""), mode("cluster")), (0o700, 0o700));
    let secrets = ["postgres.password", "postgres.superuser.password"];
    let log = fs::read_to_string(data.join("postgres.log")).unwrap();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", db.postmaster_pid().unwrap())).unwrap_or_default();
    for name in secrets {
        let secret = fs::read_to_string(data.join(name)).unwrap();
        assert_eq!((mode(name), secret.len()), (0o600, 43));
        assert!(!log.contains(&secret) && !line.contains(&secret) && !format!("{db:?}").contains(&secret));
    }
    assert_eq!((mode("postgres.log"), mode("service.lock")), (0o600, 0o600));
    let owner = fs::metadata(data.join("cluster")).unwrap().uid();
    assert_ne!(owner, 0, "PostgreSQL does not run as root");
    let stranger = db.connect_options().password("wrong").connect().await;
    assert!(stranger.is_err(), "every connection needs the password");
    db.stop().await.unwrap();
    assert!(!data.join("postgres.socket").exists());
}

#[tokio::test]
async fn a_restart_keeps_what_was_committed() {
    let dir = scratch();
    let data = dir.path().join("data");
    let db = Embedded::start(&data, Role::Service).await.unwrap();
    let first = db.postmaster_pid().unwrap();
    remember(&db, "one").await;
    db.stop().await.unwrap();
    assert!(!alive(first));
    let db = Embedded::start(&data, Role::Service).await.unwrap();
    assert_eq!(kept(&db).await, "one");
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postmaster_is_noticed_and_replaced() {
    let dir = scratch();
    let mut db = Embedded::start(dir.path().join("data").as_path(), Role::Service).await.unwrap();
    remember(&db, "one").await;
    kill(db.postmaster_pid().unwrap());
    assert!(!db.exited().await.unwrap().success());
    db.restart().await.unwrap();
    remember(&db, "two").await;
    // Killed and not noticed: the next start finds orphans, a stale process id and a stale socket.
    kill(db.postmaster_pid().unwrap());
    drop(db);
    let db = Embedded::start(dir.path().join("data").as_path(), Role::Service).await.unwrap();
    assert_eq!(kept(&db).await, "one,two");
    db.stop().await.unwrap();
}

async fn survives_the_kill_of_its_service(data: &Path) {
    let mut service = Service::spawn(data);
    let postmaster = service.ready();
    service.kill();
    assert!(alive(postmaster), "PostgreSQL outlives a killed service");
    let before = fs::read(data.join("postgres.socket")).unwrap();
    let db = Embedded::start(data, Role::Service).await.unwrap();
    assert!(!alive(postmaster));
    assert_ne!(fs::read(data.join("postgres.socket")).unwrap(), before);
    assert_eq!(kept(&db).await, "service");
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_service_leaves_nothing_in_the_way() {
    let dir = scratch();
    let data = dir.path().join("data");
    survives_the_kill_of_its_service(&data).await;
    // A command recovers as well, and leaves nothing running.
    let mut service = Service::spawn(&data);
    let postmaster = service.ready();
    service.kill();
    let db = Embedded::start(&data, Role::Command).await.unwrap();
    assert_ne!(db.postmaster_pid(), Some(postmaster));
    assert_eq!(kept(&db).await, "service,service");
    db.stop().await.unwrap();
    assert!(!alive(postmaster));
}

#[tokio::test]
async fn an_interrupted_first_start_is_begun_again() {
    let dir = scratch();
    let data = dir.path().join("data");
    let names = || fs::read_dir(&data).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let unfinished = || names().any(|name| name.to_string_lossy().starts_with("cluster.new-"));
    for pause in [0, 150, 600] {
        let service = Service::spawn(&data);
        until("the making of a cluster", || unfinished() || data.join("cluster").exists());
        std::thread::sleep(Duration::from_millis(pause));
        service.kill();
    }
    let db = Embedded::start(&data, Role::Service).await.unwrap();
    assert!(!unfinished());
    remember(&db, "one").await;
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_service_is_refused_by_the_name_of_the_first() {
    let dir = scratch();
    let data = dir.path().join("data");
    let mut service = Service::spawn(&data);
    service.ready();
    let error = Embedded::start(&data, Role::Service).await.unwrap_err();
    assert!(matches!(&error, Error::Running { pid, .. } if *pid == service.child.id()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", service.child.id())), "{error}");
    assert!(error.to_string().contains("MCPA_DATA_DIR"), "{error}");
}

#[tokio::test]
async fn a_command_beside_a_service_is_its_guest() {
    let dir = scratch();
    let data = dir.path().join("data");
    // The command comes while the service is still making its cluster.
    let mut service = Service::spawn(&data);
    until("the lock", || fs::read_to_string(data.join("service.lock")).is_ok_and(|text| text.ends_with('\n')));
    let command = Embedded::start(&data, Role::Command).await.unwrap();
    assert_eq!(command.postmaster_pid(), None);
    let postmaster = service.ready();
    assert_eq!(kept(&command).await, "service");
    command.stop().await.unwrap();
    assert!(alive(postmaster), "a guest leaves the cluster alone");
}

#[tokio::test]
async fn a_service_waits_for_a_command_that_runs_the_cluster() {
    let dir = scratch();
    let data = dir.path().join("data");
    let command = Embedded::start(&data, Role::Command).await.unwrap();
    remember(&command, "command").await;
    let alone = command.postmaster_pid().unwrap();
    let mut service = Service::spawn(&data);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!data.join("ready").exists());
    command.stop().await.unwrap();
    assert!(!alive(alone), "a command alone leaves nothing running");
    service.ready();
    let guest = Embedded::start(&data, Role::Command).await.unwrap();
    assert_eq!(kept(&guest).await, "command,service");
}

#[tokio::test]
async fn it_works_below_a_folder_its_user_may_not_enter() {
    if !geteuid().is_root() {
        return;
    }
    for parent in ["/root", "/tmp"] {
        // 0700 and root's.
        let closed = tempfile::tempdir_in(parent).unwrap();
        fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
        let data = closed.path().join("x/data");
        survives_the_kill_of_its_service(&data).await;
        let db = Embedded::start(&data, Role::Service).await.unwrap();
        kill(db.postmaster_pid().unwrap());
        drop(db);
        let db = Embedded::start(&data, Role::Service).await.unwrap();
        assert_eq!(kept(&db).await, "service");
        db.stop().await.unwrap();
        assert_eq!(fs::metadata(closed.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&data).unwrap().uid(), 0);
    }
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_folder_elsewhere() {
    let dir = scratch();
    let data = dir.path().join("x".repeat(100));
    survives_the_kill_of_its_service(&data).await;
    let mut service = Service::spawn(&data);
    service.ready();
    let guest = Embedded::start(&data, Role::Command).await.unwrap();
    let left = socket_dir(&guest);
    assert!(!left.starts_with(&data), "{}", left.display());
    assert_eq!(fs::metadata(&left).unwrap().mode() & 0o777, 0o700);
    service.kill();
    let mut db = Embedded::start(&data, Role::Service).await.unwrap();
    assert!(!left.exists(), "a killed service's folder is removed by the next start");
    let ours = socket_dir(&db);
    kill(db.postmaster_pid().unwrap());
    db.exited().await.unwrap();
    fs::remove_dir_all(&ours).unwrap();
    db.restart().await.unwrap();
    assert_eq!(socket_dir(&db), ours);
    assert_eq!(kept(&db).await, "service,service");
    db.stop().await.unwrap();
    assert!(!ours.exists());
}

#[tokio::test]
async fn a_process_id_that_is_somebody_elses_by_now_stops_nothing() {
    let dir = scratch();
    let data = dir.path().join("data");
    let db = Embedded::start_throwaway(&data).await.unwrap();
    kill(db.postmaster_pid().unwrap());
    drop(db);
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    for file in ["postmaster.pid", ".s.PGSQL.5432.lock"] {
        let path = data.join("cluster").join(file);
        let old = fs::read_to_string(&path).unwrap();
        let rest = old.split_once('\n').unwrap().1.to_owned();
        fs::write(&path, format!("{}\n{rest}", stranger.id())).unwrap();
    }
    let db = Embedded::start_throwaway(&data).await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger is never signalled");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_or_stale_password_is_set_anew() {
    let dir = scratch();
    let data = dir.path().join("data");
    let db = Embedded::start_throwaway(&data).await.unwrap();
    remember(&db, "one").await;
    db.stop().await.unwrap();
    fs::remove_file(data.join("postgres.password")).unwrap();
    let db = Embedded::start_throwaway(&data).await.unwrap();
    assert_eq!(kept(&db).await, "one");
    db.stop().await.unwrap();
    let secret = fs::read_to_string(data.join("postgres.password")).unwrap();
    assert!(!fs::read_to_string(data.join("postgres.log")).unwrap().contains(&secret));
}

#[tokio::test]
async fn a_throwaway_cluster_clones_databases() {
    let dir = scratch();
    let db = Embedded::start_throwaway(&dir.path().join("data")).await.unwrap();
    assert_eq!(text(&db, "select current_setting('fsync')").await, "off");
    assert_eq!(text(&db, "select current_setting('max_connections')").await, "300");
    let mut connection = db.connect_options().database("postgres").connect().await.unwrap();
    connection.execute("create database copy template authority").await.unwrap();
    connection.close().await.unwrap();
    db.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused() {
    let dir = scratch();
    let data = dir.path().join("data");
    Embedded::start_throwaway(&data).await.unwrap().stop().await.unwrap();
    let ours = find_programs().unwrap().major;
    fs::write(data.join("cluster/PG_VERSION"), "9\n").unwrap();
    let error = Embedded::start(&data, Role::Service).await.unwrap_err();
    assert!(matches!(error, Error::Version { found: 9, .. }), "{error}");
    let said = error.to_string();
    for word in ["pg_upgrade", "--old-bindir", "--new-bindir", "PostgreSQL 9", "--old-datadir", "--new-datadir"] {
        assert!(said.contains(word), "{said}");
    }
    fs::write(data.join("cluster/PG_VERSION"), format!("{ours}\n")).unwrap();
    Embedded::start(&data, Role::Service).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let dir = scratch();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    let error = Embedded::start(&data, Role::Service).await.unwrap_err();
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[tokio::test]
async fn a_large_log_is_set_aside_while_it_is_written() {
    let dir = scratch();
    let data = dir.path().join("data");
    let db = Embedded::start_throwaway(&data).await.unwrap();
    let log = data.join("postgres.log");
    fs::OpenOptions::new().append(true).open(&log).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    db.bound_log().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    assert_eq!(fs::metadata(data.join("postgres.log.1")).unwrap().mode() & 0o777, 0o600);
    assert!(db.connect_options().password("wrong").connect().await.is_err());
    until("a line in the emptied log", || fs::read_to_string(&log).is_ok_and(|text| text.starts_with("20")));
    db.stop().await.unwrap();
}

#[test]
fn missing_programs_say_what_to_install() {
    let dir = scratch();
    let found: Vec<Programs> = programs_in(&[dir.path().to_owned(), PathBuf::from("/does/not/exist")]);
    let said = choose(&found, None, Path::new("")).unwrap_err().to_string();
    for word in ["apt install postgresql", "dnf install postgresql-server", "brew install", "MCPA_DATABASE_URL"] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_directory_open_to_others_is_refused_and_left_as_it_is() {
    let dir = scratch();
    let error = Embedded::start(dir.path(), Role::Service).await.unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let data = dir.path().join("data");
    Embedded::start_throwaway(&data).await.unwrap().stop().await.unwrap();
    fs::remove_file(data.join("cluster/PG_VERSION")).unwrap();
    let error = Embedded::start(&data, Role::Service).await.unwrap_err();
    assert!(error.to_string().contains("PG_VERSION"), "{error}");
}

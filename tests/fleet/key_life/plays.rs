//! What happens to a key in a day, and whether it had to.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use mcp_authority::app::App;
use mcp_authority::db::Done;
use mcp_authority::keys::{self, Change, Holder};
use mcp_authority::observations::{Owner, Place};
use mcp_authority::refusal::Refused;
use mcp_authority::revocations::{Kind, New};
use mcp_authority::secrets::Issued;
use mcp_authority::types::caller::Caller;
use mcp_authority::types::clock::Timestamp;
use mcp_authority::types::credential::{Credential, Kind as CredentialKind, Presented};
use mcp_authority::types::environment::Environment;
use mcp_authority::types::id::KeyId;
use sqlx::{Executor, Row};
use time::OffsetDateTime;

use super::model::{DAY, Fate, Key, OVERLAP, SECOND, Secret};
use crate::support::{Node, Seeded, TestDb};

/// Keys that one statement puts into the database.
const PUT_AT_ONCE: usize = 1_000;
/// The life of a version is what was said, give or take what a busy machine needs for one change.
const TOLERANCE: i64 = 300 * SECOND;

/// What was met.
#[derive(Debug, Default)]
pub struct Tally {
    pub rotated: u64,
    pub by_itself: u64,
    pub asked_again: u64,
    pub taken_back: u64,
    pub finished: u64,
    pub refused: u64,
    pub revived: u64,
    pub told: u64,
    pub late: u64,
    pub answers: u64,
    pub restarts: u64,
}

impl Tally {
    pub const fn covers(&self) -> bool {
        let Self {
            rotated,
            by_itself,
            asked_again,
            taken_back,
            finished,
            refused,
            revived,
            told,
            late,
            answers,
            restarts,
        } = self;
        *rotated > 0
            && *by_itself > 0
            && *asked_again > 0
            && *taken_back > 0
            && *finished > 0
            && *refused > 0
            && *revived > 0
            && *told > 0
            && *late > 0
            && *answers > 0
            && *restarts > 0
    }

    /// Adds a line to the report of a long run.
    #[expect(clippy::disallowed_methods, reason = "where a long run leaves its figures")]
    pub fn report(&self, keys: usize, processes: usize, seed: u64, took: Duration) {
        let Ok(path) = std::env::var("TEST_LIFE_REPORT") else { return };
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("the report");
        let Self {
            rotated,
            by_itself,
            asked_again,
            taken_back,
            finished,
            refused,
            revived,
            told,
            late,
            answers,
            restarts,
        } = self;
        let (nodes, seconds) = (processes + 1, took.as_secs());
        writeln!(
            file,
            "| {keys} | {nodes} | {rotated} | {by_itself} | {asked_again} | {taken_back} | {finished} | {revived} | {refused} | {told} | {late} | {restarts} | {answers} | {seconds} | {seed} |"
        )
        .expect("written");
    }
}

/// A day's event of one key.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Rotate { grace: i64 },
    Renew { lose: bool, old: bool },
    Use,
    UseOld,
    Cancel,
    Finish,
    Switch,
    Revoke,
}

/// Something that happens now and then.
pub fn any(seeded: &mut Seeded) -> Event {
    match seeded.below(20) {
        0..5 => Event::Rotate { grace: *seeded.pick(&[DAY / 2, 5 * DAY + DAY / 2, 20 * DAY + DAY / 2]) },
        5 => Event::Rotate { grace: 0 },
        6..9 => Event::Renew { lose: seeded.below(2) == 0, old: seeded.below(2) == 0 },
        9..13 => Event::Use,
        13..15 => Event::Cancel,
        15..17 => Event::Finish,
        17 | 18 => Event::Switch,
        _ if seeded.below(4) == 0 => Event::Revoke,
        _ => Event::Use,
    }
}

/// Keys with their first secret and a grant, put in place many at a time: two thousand requests would take longer than the two years.
pub async fn put(db: &TestDb, node: &Node, (agent, server): (&str, &str), plans: &[(i64, bool)]) -> Vec<Key> {
    let secret_key = node.app.feed.secret_key();
    let mut made = Vec::with_capacity(plans.len());
    for plans in plans.chunks(PUT_AT_ONCE) {
        let mut rows = Vec::new();
        for (days, self_rotation) in plans {
            let id = KeyId::random();
            let twelve = id.as_str().as_bytes().last_chunk().expect("twelve characters");
            let text = Credential::generate(CredentialKind::Key(Environment::Prod), twelve).reveal().to_owned();
            let digest = node.app.live.keyring.digest(&secret_key, &text).expect("a digest");
            let mut hex = String::new();
            for byte in digest {
                write!(hex, "{byte:02x}").expect("a string takes it");
            }
            rows.push(format!("('{id}', {days}, {self_rotation}, '{hex}')"));
            let secrets = vec![Secret { version: 1, text, created: 0, own_end: 0, end: 0, used: false }];
            let (id, dead) = (id.to_string(), Vec::new());
            made.push(Key {
                id,
                days: *days,
                self_rotation: *self_rotation,
                disabled: false,
                revoked: false,
                secrets,
                dead,
                versions: Vec::new(),
                last: 1,
            });
        }
        let rows = rows.join(", ");
        db.execute(&format!(
            "begin; create temporary table put on commit drop as
               select * from (values {rows}) as rows (id, days, self_rotation, digest);
             insert into keys (id, agent_id, environment, direct, self_rotation, expires_in_days)
               select id, '{agent}', 'prod', true, self_rotation, days from put;
             insert into grants (holder, server_id, permissions) select id, '{server}', '{{*}}' from put;
             insert into secrets (owner, version, secret_key, digest, hint, created_at, expires_at)
               select id, 1, '{secret}', decode(digest, 'hex'), 'abcd', made, made + make_interval(days => days)
                 from put, lateral (select authority_now() as made) as clock;
             commit",
            secret = &*secret_key,
        ))
        .await;
    }
    let rows = db.connection().await.fetch_all("select owner, created_at from secrets").await.expect("the secrets");
    let created: HashMap<String, i64> =
        rows.iter().map(|row| (row.get("owner"), micros(row.get("created_at")))).collect();
    for key in &mut made {
        let made_at = created[&key.id];
        let first = key.secrets.last_mut().expect("one");
        (first.created, first.own_end, first.end) = (made_at, made_at + key.days * DAY, made_at + key.days * DAY);
        key.follow(None);
    }
    made
}

fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).expect("a time")
}

/// The model's word for a secret that the service made. Its end must be what was said.
fn secret(app: &App, issued: &Issued, days: i64) -> Secret {
    let end = micros(issued.expires_at.expect("an end"));
    let created = end - days * DAY;
    let now = app.live.now().micros();
    assert!((created - now).abs() < TOLERANCE, "it lives {} seconds more than was said", (created - now) / SECOND);
    let text = issued.credential.reveal().to_owned();
    Secret { version: issued.version, text, created, own_end: end, end, used: false }
}

/// Something happens to a key. The key afterwards, and what was met.
pub async fn happen(app: &App, mut key: Key, event: Event) -> (Key, Tally) {
    let mut met = Tally::default();
    match event {
        Event::Rotate { grace } => rotate(app, &mut key, grace, &mut met).await,
        Event::Renew { lose, old } => renew(app, &mut key, (lose, old), &mut met).await,
        Event::Use => use_newest(app, &mut key).await,
        Event::UseOld => use_old(app, &mut key).await,
        Event::Cancel => {
            let fate = ends(app, &key);
            if judged(fate, keys::cancel(&app.db, &Caller::machine(), &key.id).await, &mut met).is_some() {
                met.taken_back += 1;
                key.cancelled();
            }
        }
        Event::Finish => {
            let fate = ends(app, &key);
            let now = app.live.now().micros();
            if judged(fate, keys::finish(&app.db, &Caller::machine(), &key.id).await, &mut met).is_some() {
                met.finished += 1;
                key.finished(now);
            }
        }
        Event::Switch => {
            if !key.revoked {
                let change = Change { disabled: Some(!key.disabled), ..Change::default() };
                let (_, done, _) =
                    keys::change(&app.db, &Caller::machine(), &key.id, change, None).await.expect("switched");
                app.feed.spread(done).await;
                key.disabled = !key.disabled;
            }
        }
        Event::Revoke => {
            app.revoker.revoke(&Caller::machine(), New::of(Kind::Key, &key.id, "default")).await.expect("revoked");
            key.revoked = true;
        }
    }
    (key, met)
}

/// What becomes of a request to end an overlap.
fn ends(app: &App, key: &Key) -> Fate {
    match () {
        () if key.revoked => Fate::Refused("key_revoked"),
        () if key.older(app.live.now().micros()).is_none() => Fate::Refused("no_overlap"),
        () => Fate::Done,
    }
}

/// What was made, if something had to be; refused as it had to be, if it had to be.
fn judged<T>(fate: Fate, outcome: Result<(T, Done), Refused>, met: &mut Tally) -> Option<T> {
    match (fate, outcome) {
        (Fate::Done, Ok((made, _))) => Some(made),
        (Fate::Refused(code), Err(refused)) => {
            assert_eq!(refused.code.as_str(), code);
            met.refused += 1;
            None
        }
        (fate, outcome) => panic!("{fate:?} was expected: {:?}", outcome.err()),
    }
}

async fn rotate(app: &App, key: &mut Key, grace: i64, met: &mut Tally) {
    let now = app.live.now().micros();
    let (fate, dead) = (key.rotation(now, grace), key.newest().end <= now);
    let secret_key = app.feed.secret_key();
    let done = keys::rotate(&app.db, app.sealing(&secret_key), &Caller::machine(), &key.id, Some(grace / SECOND)).await;
    if let Some(rotated) = judged(fate, done, met) {
        met.rotated += 1;
        met.revived += u64::from(dead);
        key.rotated(now, grace, secret(app, &rotated.issued, key.days));
    }
}

/// The key rotates itself with one of its secrets, and may lose the answer: then it asks again.
async fn renew(app: &App, key: &mut Key, (lose, old): (bool, bool), met: &mut Tally) {
    let now = app.live.now().micros();
    let older = key.older(now).filter(|_| old).cloned();
    let shown = older.unwrap_or_else(|| key.newest().clone());
    if !key.works(&shown.text, now) {
        return;
    }
    if shown.version == key.newest().version {
        use_newest(app, key).await;
    }
    if !by_itself(app, key, shown.version, met).await {
        return;
    }
    if lose {
        met.asked_again += u64::from(by_itself(app, key, shown.version, met).await);
    } else {
        use_newest(app, key).await;
    }
}

async fn by_itself(app: &App, key: &mut Key, version: i32, met: &mut Tally) -> bool {
    let now = app.live.now().micros();
    let fate = key.own_rotation(now, version);
    let secret_key = app.feed.secret_key();
    let holder = Holder { key: &key.id, version };
    let by = Caller::nobody(key.id.clone());
    let done = keys::rotate_self(&app.db, app.sealing(&secret_key), &by, holder, None).await;
    let Some(rotated) = judged(fate, done, met) else { return false };
    met.by_itself += 1;
    key.rotated(now, OVERLAP, secret(app, &rotated.issued, key.days));
    true
}

/// The secret before the newest is used, if it works, and that is written.
async fn use_old(app: &App, key: &mut Key) {
    let at = app.live.now();
    let Some(old) = key.older(at.micros()).map(|old| old.version) else { return };
    let owner = Owner::Key(key.id.parse().expect("an id"));
    app.observations.noting().used(owner, old, Place { at, server: None, address: None });
    app.settle_use(owner, Some(old)).await.expect("written");
    key.versions.iter_mut().filter(|version| version.number == old).for_each(|version| version.used_when_old = true);
}

/// The newest secret is used, and that is written.
async fn use_newest(app: &App, key: &mut Key) {
    let at = app.live.now();
    let owner = Owner::Key(key.id.parse().expect("an id"));
    let newest = key.secrets.last_mut().expect("one");
    if newest.used || newest.end <= at.micros() {
        return;
    }
    assert!(Presented::parse(&newest.text).is_some());
    // Before whatever comes next, whichever clock says when that was.
    let at = Timestamp::from_micros(at.micros() - SECOND);
    app.observations.noting().used(owner, newest.version, Place { at, server: None, address: None });
    app.settle_use(owner, Some(newest.version)).await.expect("written");
    newest.used = true;
}

//! Revocations at random moments while the fleet answers questions and something goes wrong.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::fleet::{Credential, Fleet, Said};
use crate::support::Seeded;

/// How many revocations each fault sees.
const REVOCATIONS: u64 = 300;
/// Revocations under way at once.
const REVOKING: usize = 16;
/// Questions under way at each node, beside those of the revocations.
const ASKING: usize = 2;
/// The dead that are asked about again and again.
const REMEMBERED: usize = 48;

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub revoked: u64,
    pub active: u64,
    pub inactive: u64,
    pub unavailable: u64,
    pub nothing: u64,
    /// Answers "active" to requests that were sent after the revoke's reply was read.
    pub violations: u64,
}

struct Storm<'a> {
    fleet: &'a Fleet,
    left: Cell<u64>,
    tally: RefCell<Tally>,
    dead: RefCell<Vec<String>>,
    until_first: bool,
    over: Cell<bool>,
}

/// A storm of as many revocations as this run makes of each fault; nothing may be counted.
pub async fn withstand(name: &str, fleet: &Fleet, fault: impl AsyncFn(&mut Seeded)) -> Tally {
    let seed = Seeded::number("TEST_SEED").unwrap_or_else(|| Seeded::from_env("TEST_SEED"));
    let count = Seeded::number("TEST_REVOCATIONS").unwrap_or(REVOCATIONS);
    let began = Instant::now();
    let tally = storm(fleet, seed, (count, false), fault).await;
    println!("{name}: {tally:?} in {:?}", began.elapsed());
    report(name, &tally, began.elapsed(), seed);
    assert_eq!(tally.violations, 0, "{name}, seed {seed}: {tally:?}");
    assert!(tally.revoked >= count && tally.active > 0 && tally.inactive > 0, "{name}, seed {seed}: {tally:?}");
    tally
}

/// The same without a protection: it ends at the first violation, and there must be one.
pub async fn succumb(name: &str, fleet: &Fleet, fault: impl AsyncFn(&mut Seeded)) {
    let seed = Seeded::number("TEST_SEED").unwrap_or_else(|| Seeded::from_env("TEST_SEED"));
    let tally = storm(fleet, seed, (REVOCATIONS * 4, true), fault).await;
    println!("{name}, without its protection: {tally:?}");
    assert!(tally.violations > 0, "{name}: the test cannot see what it is for: {tally:?}");
}

async fn storm(fleet: &Fleet, seed: u64, (count, until_first): (u64, bool), fault: impl AsyncFn(&mut Seeded)) -> Tally {
    let storm = Storm {
        fleet,
        left: Cell::new(count),
        tally: RefCell::default(),
        dead: RefCell::default(),
        until_first,
        over: Cell::new(false),
    };
    let workers = join_all((0..REVOKING).map(|number| storm.revoke(Seeded::new(seed ^ (number as u64) << 8))));
    let load =
        join_all((0..ASKING * 3).map(|number| storm.load(number % 3, Seeded::new(seed ^ (number as u64) << 16))));
    let faults = async {
        let mut seeded = Seeded::new(seed ^ 0xFA);
        loop {
            fault(&mut seeded).await;
        }
    };
    let revoking = async {
        workers.await;
        storm.over.set(true);
    };
    tokio::select! {
        _ = async { tokio::join!(revoking, load) } => {}
        () = faults => {}
    }
    storm.tally.into_inner()
}

impl Storm<'_> {
    fn next(&self) -> bool {
        if self.until_first && self.tally.borrow().violations > 0 || self.left.get() == 0 {
            return false;
        }
        self.left.set(self.left.get() - 1);
        true
    }

    /// Makes a credential, revokes it at some node at some moment, and asks all nodes about it from then on.
    async fn revoke(&self, mut seeded: Seeded) {
        while self.next() {
            let credential = self.fleet.credential(seeded.below(8) == 0).await;
            pause(&mut seeded, 0, 12).await;
            self.fleet.revoke_somewhere(seeded.below(3), &credential).await;
            self.tally.borrow_mut().revoked += 1;
            self.remember(&credential);
            for _ in 0..2 {
                join_all(self.fleet.doors().iter().map(|door| self.ask(door, credential.text(), true))).await;
                pause(&mut seeded, 0, 30).await;
            }
        }
    }

    fn remember(&self, credential: &Credential) {
        let mut dead = self.dead.borrow_mut();
        if dead.len() == REMEMBERED {
            dead.remove(0);
        }
        dead.push(credential.text().to_owned());
    }

    /// Asks one node: about those that died lately, and about one that lives.
    async fn load(&self, door: usize, mut seeded: Seeded) {
        while !self.over.get() {
            let dead = (!self.dead.borrow().is_empty() && seeded.below(3) != 0).then(|| {
                let dead = self.dead.borrow();
                dead[seeded.below(dead.len())].clone()
            });
            let url = &self.fleet.doors()[door];
            match &dead {
                Some(token) => self.ask(url, token, true).await,
                None => self.ask(url, &self.fleet.key.key, false).await,
            }
            pause(&mut seeded, 3, 15).await;
        }
    }

    /// `dead`: it was revoked, and the reply was read, before this is sent.
    async fn ask(&self, url: &str, token: &str, dead: bool) {
        let said = self.fleet.ask(url, token).await;
        let mut tally = self.tally.borrow_mut();
        match said {
            Said::Active if dead => tally.violations += 1,
            Said::Active => tally.active += 1,
            Said::Inactive => tally.inactive += 1,
            Said::Unavailable => tally.unavailable += 1,
            Said::Nothing => tally.nothing += 1,
        }
    }
}

/// A random time. Nothing hangs on its length: it only makes moments differ.
pub async fn pause(seeded: &mut Seeded, from: usize, to: usize) {
    let millis = from + seeded.below(to - from);
    tokio::time::sleep(Duration::from_millis(u64::try_from(millis).expect("small"))).await;
}

#[expect(clippy::disallowed_methods, reason = "where a long run leaves its figures")]
fn report(name: &str, tally: &Tally, took: Duration, seed: u64) {
    let Ok(path) = std::env::var("TEST_REPORT") else { return };
    let mut file = std::fs::File::options().create(true).append(true).open(path).expect("the report");
    let Tally { revoked, active, inactive, unavailable, nothing, violations } = tally;
    let seconds = took.as_secs();
    writeln!(
        file,
        "| {name} | {revoked} | {active} | {inactive} | {unavailable} | {nothing} | {violations} | {seconds} | {seed} |"
    )
    .expect("written");
}

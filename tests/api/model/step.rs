//! What may happen in a story. Numbers stand for "one of those that there are then", so that a step makes sense in any story.

use crate::support::Seeded;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A new key of an agent, on some servers, with some permissions.
    Issue { agent: usize, grants: Vec<(usize, Vec<&'static str>)>, direct: Option<bool> },
    /// A new key whose rights come from roles.
    IssueWithRole { agent: usize, role: usize },
    /// A new secret; the old one lives on for the grace.
    Rotate { key: usize, grace: i64 },
    /// A session token for a server.
    Session { secret: usize, server: usize, scope: Option<Vec<&'static str>> },
    /// A smaller token, perhaps with somebody acting.
    Exchange { subject: usize, actor: Option<usize>, scope: Option<Vec<&'static str>> },
    /// Other grants of a key.
    Narrow { key: usize, grants: Vec<(usize, Vec<&'static str>)> },
    /// Other roles of a key.
    Roles { key: usize, roles: Vec<usize> },
    /// Other grants of a role.
    ChangeRole { role: usize, grants: Vec<(usize, Vec<&'static str>)> },
    /// A token ends.
    RevokeToken { token: usize },
    /// A key ends.
    RevokeKey { key: usize },
    /// Everything of it so far, or up to some seconds ago.
    CutOff { what: Level, which: usize, before: Option<i64> },
    /// The key that signs is replaced and what it signed dies.
    RevokeSigningKey { server: usize },
    /// Off or on.
    Switch { what: Thing, which: usize, disabled: bool },
    /// For good.
    Delete { what: Thing, which: usize },
    /// Time passes.
    Advance { seconds: i64 },
    /// The node stops, another starts.
    Restart,
}

/// What is cut off.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    Agent,
    Server,
    Project,
    All,
}

/// What is switched or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Key,
    Agent,
    Server,
}

const PERMISSIONS: [&str; 7] =
    ["*", "tools/call", "tools/call:a*", "tools/call:ab", "tools/call:b", "tools/list", "prompts/get"];
const GRACES: [i64; 4] = [0, 0, 30, 2_000];
const ADVANCES: [i64; 6] = [1, 40, 500, 900, 3_000, 86_400];

impl Step {
    /// Something to begin with.
    pub fn opening(random: &mut Seeded) -> Self {
        Self::Issue { agent: random.below(1_000), grants: grants(random), direct: None }
    }

    /// One of all, those that make something more often than those that end much.
    pub fn random(random: &mut Seeded) -> Self {
        let which = random.below(1_000);
        match random.below(100) {
            0..=9 => {
                Self::Issue { agent: which, grants: grants(random), direct: *random.pick(&[None, None, Some(true)]) }
            }
            10..=13 => Self::IssueWithRole { agent: which, role: random.below(1_000) },
            14..=18 => Self::Rotate { key: which, grace: *random.pick(&GRACES) },
            19..=38 => Self::Session { secret: which, server: random.below(1_000), scope: scope(random) },
            39..=54 => {
                let actor = (random.below(2) == 0).then(|| random.below(1_000));
                Self::Exchange { subject: which, actor, scope: scope(random) }
            }
            55..=59 => Self::Narrow { key: which, grants: grants(random) },
            60..=62 => Self::Roles { key: which, roles: (0..random.below(3)).map(|_| random.below(1_000)).collect() },
            63..=65 => Self::ChangeRole { role: which, grants: grants(random) },
            66..=69 => Self::RevokeToken { token: which },
            70..=72 => Self::RevokeKey { key: which },
            73..=78 => {
                let what = *random.pick(&[Level::Agent, Level::Agent, Level::Server, Level::Project, Level::All]);
                let before = (random.below(2) == 0).then(|| *random.pick(&[0, 20, 400, 1_000]));
                Self::CutOff { what, which, before }
            }
            79 => Self::RevokeSigningKey { server: which },
            80..=87 => {
                let what = *random.pick(&[Thing::Key, Thing::Agent, Thing::Server]);
                Self::Switch { what, which, disabled: random.below(5) < 2 }
            }
            88 => Self::Delete { what: *random.pick(&[Thing::Agent, Thing::Server]), which },
            89..=98 => Self::Advance { seconds: *random.pick(&ADVANCES) },
            _ => Self::Restart,
        }
    }
}

fn grants(random: &mut Seeded) -> Vec<(usize, Vec<&'static str>)> {
    (0..=random.below(2)).map(|_| (random.below(1_000), random.some(&PERMISSIONS))).collect()
}

fn scope(random: &mut Seeded) -> Option<Vec<&'static str>> {
    (random.below(2) == 0).then(|| random.some(&PERMISSIONS))
}

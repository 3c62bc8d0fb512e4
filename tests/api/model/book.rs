//! The model: what there is, what became of it, and what each credential is worth then. It knows nothing of the service's
//! feed, memory or tables; rights are sets of the calls below.

use std::collections::{BTreeMap, BTreeSet};

/// Every call that rights are told apart by.
const CALLS: [&str; 8] = [
    "tools/list",
    "prompts/get:x",
    "tools/call:a",
    "tools/call:ab",
    "tools/call:abc",
    "tools/call:b",
    "tasks/get",
    "prompts/list",
];
/// What was issued up to this long after an `issued_before` dies with it.
const MARGIN: i64 = 5;

/// Calls that are allowed.
pub type Rights = BTreeSet<&'static str>;

/// The calls that permissions allow.
pub fn rights<'a>(permissions: impl IntoIterator<Item = &'a str>) -> Rights {
    let permissions: Vec<&str> = permissions.into_iter().collect();
    let allows = |permission: &str, call: &str| match permission.strip_suffix('*') {
        Some(start) => call.starts_with(start),
        None => call == permission || call.split(':').next() == Some(permission),
    };
    CALLS.into_iter().filter(|call| permissions.iter().any(|permission| allows(permission, call))).collect()
}

/// Grants: server to rights.
pub type Grants = BTreeMap<usize, Rights>;

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    pub agent: usize,
    pub direct: bool,
    pub grants: Grants,
    pub roles: BTreeSet<usize>,
    pub disabled: bool,
    pub revoked: bool,
}

/// A version of a key's secret.
#[derive(Clone, Debug)]
pub struct Secret {
    pub key: usize,
    pub ends: i64,
}

/// A session token.
#[derive(Clone, Debug)]
pub struct Token {
    pub server: usize,
    pub rights: Rights,
    /// Secrets it hangs on: its own and its actors'.
    pub secrets: Vec<usize>,
    /// When it and the tokens it comes from were issued, and at which step.
    pub born: Vec<(i64, usize)>,
    /// Itself and the tokens it comes from.
    pub line: Vec<usize>,
    pub signed_by: BTreeSet<String>,
    pub ends: i64,
    pub actors: usize,
}

/// Something that ends tokens of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Key(usize),
    Agent(usize),
    Server(usize),
    All,
}

/// Everything there is.
#[derive(Default, Debug)]
pub struct Book {
    pub agents: Vec<bool>,
    pub dead_agents: BTreeSet<usize>,
    pub servers: Vec<bool>,
    pub dead_servers: BTreeSet<usize>,
    pub roles: Vec<Grants>,
    pub keys: Vec<Key>,
    pub secrets: Vec<Secret>,
    pub tokens: Vec<Token>,
    pub dead_tokens: BTreeSet<usize>,
    pub dead_signers: BTreeSet<String>,
    /// Ends what was born before this step, or up to this time.
    pub cuts: Vec<(Of, usize, Option<i64>)>,
    pub now_step: usize,
}

impl Book {
    /// What a key may do on a server now.
    pub fn held(&self, key: usize, server: usize) -> Rights {
        let key = &self.keys[key];
        let grants = key.roles.iter().map(|role| &self.roles[*role]).chain([&key.grants]);
        grants.filter_map(|grants| grants.get(&server)).flatten().copied().collect()
    }

    /// Servers on which a key may do anything.
    pub fn servers_of(&self, key: usize) -> Vec<usize> {
        (0..self.servers.len()).filter(|server| !self.held(key, *server).is_empty()).collect()
    }

    /// Whether a key may act at all.
    pub fn acts(&self, key: usize) -> bool {
        let key = &self.keys[key];
        !key.revoked && !key.disabled && !self.agents[key.agent] && !self.dead_agents.contains(&key.agent)
    }

    /// Whether a secret opens the token endpoint.
    pub fn works(&self, secret: usize, now: i64) -> bool {
        let secret = &self.secrets[secret];
        now < secret.ends && self.acts(secret.key)
    }

    /// What a secret is worth at a server that asks.
    pub fn secret_at(&self, secret: usize, server: usize, now: i64) -> Option<Rights> {
        let key = self.secrets[secret].key;
        let held = self.held(key, server);
        (self.works(secret, now) && self.keys[key].direct && !held.is_empty()).then_some(held)
    }

    /// What a token is worth at a server that asks.
    pub fn token_at(&self, token: usize, server: usize, now: i64) -> Option<Rights> {
        let it = &self.tokens[token];
        let alive = it.server == server
            && now < it.ends
            && !self.servers[server]
            && !self.dead_servers.contains(&server)
            && it.line.iter().all(|token| !self.dead_tokens.contains(token))
            && it.signed_by.is_disjoint(&self.dead_signers)
            && it.secrets.iter().all(|secret| self.works(*secret, now))
            && !self.cuts.iter().any(|cut| self.is_cut(it, *cut));
        let held = it.secrets.iter().map(|secret| self.held(self.secrets[*secret].key, server));
        let left: Rights = held.fold(it.rights.clone(), |left, held| left.intersection(&held).copied().collect());
        (alive && !left.is_empty()).then_some(left)
    }

    fn is_cut(&self, token: &Token, (of, step, before): (Of, usize, Option<i64>)) -> bool {
        let touches = match of {
            Of::All => true,
            Of::Server(server) => token.server == server,
            Of::Key(key) => token.secrets.iter().any(|secret| self.secrets[*secret].key == key),
            Of::Agent(agent) => token.secrets.iter().any(|secret| self.keys[self.secrets[*secret].key].agent == agent),
        };
        let old = match before {
            // What it comes from was not ended when it was issued, or it would not have been.
            None => token.born.last().is_some_and(|(_, born)| *born < step),
            // In time, a token is as old as the oldest one it comes from.
            Some(before) => token.born.iter().any(|(at, _)| *at <= before + MARGIN),
        };
        touches && old
    }

    /// Ends everything of something so far.
    pub fn cut(&mut self, of: Of) {
        self.cuts.push((of, self.now_step, None));
    }
}

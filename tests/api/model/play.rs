//! Plays the steps on a node and in the book, and compares.

use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::book::{Book, Grants, rights};
use super::step::Step;
use crate::support::jwt::{claims, header};
use crate::support::{Key, Node, Operator, Reply, Server, TestDb, exchange, text};

/// The life of a session token.
const LIFE: i64 = 900;

/// A story's own things, and the book about them. Things of the service and of the book have the same numbers.
pub struct Stage<'a> {
    pub(super) db: &'a TestDb,
    pub(super) node: Option<Node>,
    pub(super) operator: Operator,
    pub(super) projects: [String; 2],
    pub(super) agents: Vec<String>,
    pub(super) servers: Vec<Server>,
    pub(super) roles: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) secrets: Vec<Key>,
    pub(super) tokens: Vec<String>,
    pub(super) book: Book,
    /// Answers compared so far.
    pub asked: usize,
}

pub(super) type Outcome = Result<(), String>;

/// The status is this one; where many are refused in a short time, waiting is asked for in place of 401.
pub(super) fn expect(reply: &Reply, status: u16) -> Outcome {
    let found = reply.status.as_u16();
    if found == status || (status == 401 && found == 429) {
        return Ok(());
    }
    Err(format!("{status} expected, {found} came: {}", reply.text))
}

fn seconds(time: &Value) -> i64 {
    let time = time.as_str().expect("a time");
    time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339)
        .expect("RFC 3339")
        .unix_timestamp()
}

impl<'a> Stage<'a> {
    pub async fn new(db: &'a TestDb, node: Node) -> Self {
        // A cut-off of everything, made by the story before this one, reaches some seconds beyond its time.
        node.advance(db, 10).await;
        let operator = node.operator().await;
        let projects = [0, 1].map(|_| format!("p{}", uuid::Uuid::new_v4().simple()));
        let (mut agents, mut servers, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        for project in &projects {
            operator.post(&node, "/v1/projects", json!({"name": project, "hosts": ["*.example.com"]})).await.created();
            let agent =
                operator.post(&node, "/v1/agents", json!({"name": "agent", "project": project})).await.created();
            agents.push(text(&agent, "id"));
        }
        for index in 0..3 {
            let resource = format!("https://{}.example.com/mcp", uuid::Uuid::new_v4().simple());
            let body = json!({"name": "server", "resource": resource, "project": projects[index % 2]});
            servers.push(operator.server_with(&node, body).await);
        }
        for name in ["reader", "writer"] {
            let body = json!({"name": name, "project": projects[0]});
            roles.push(text(&operator.post(&node, "/v1/roles", body).await.created(), "id"));
        }
        let book = Book {
            agents: vec![false; agents.len()],
            servers: vec![false; servers.len()],
            roles: vec![Grants::new(); roles.len()],
            ..Book::default()
        };
        let (keys, secrets, tokens) = (Vec::new(), Vec::new(), Vec::new());
        Self { db, node: Some(node), operator, projects, agents, servers, roles, keys, secrets, tokens, book, asked: 0 }
    }

    /// The node, for the next story.
    pub fn node(self) -> Node {
        self.node.expect("a node")
    }

    pub(super) fn on(&self) -> &Node {
        self.node.as_ref().expect("a node")
    }

    pub(super) fn now(&self) -> i64 {
        self.on().app.live.now().seconds()
    }

    /// Plays one step, and compares everything after it.
    pub async fn step(&mut self, step: &Step) -> Outcome {
        self.book.now_step += 1;
        match step {
            Step::Issue { agent, grants, direct } => self.issue(*agent, grants, *direct).await?,
            Step::IssueWithRole { agent, role } => self.issue_with_role(*agent, *role).await?,
            Step::Rotate { key, grace } => self.rotate(*key, *grace).await?,
            Step::Session { secret, server, scope } => self.session(*secret, *server, scope.as_deref()).await?,
            Step::Exchange { subject, actor, scope } => self.exchange(*subject, *actor, scope.as_deref()).await?,
            Step::Narrow { key, grants } => self.narrow(*key, grants).await?,
            Step::Roles { key, roles } => self.set_roles(*key, roles).await?,
            Step::ChangeRole { role, grants } => self.change_role(*role, grants).await?,
            Step::RevokeToken { token } => self.revoke_token(*token).await?,
            Step::RevokeKey { key } => self.revoke_key(*key).await?,
            Step::CutOff { what, which, before } => self.cut_off(*what, *which, *before).await?,
            Step::RevokeSigningKey { server } => self.revoke_signing_key(*server).await?,
            Step::Switch { what, which, disabled } => self.switch(*what, *which, *disabled).await?,
            Step::Delete { what, which } => self.delete(*what, *which).await?,
            Step::Advance { seconds } => self.on().advance(self.db, *seconds).await,
            Step::Restart => {
                self.node.take().expect("a node").stop().await;
                self.node = Some(Node::start(self.db).await);
            }
        }
        self.compare().await
    }

    /// Grants on servers that are there: for the API, and for the book.
    pub(super) fn grants(&self, asked: &[(usize, Vec<&'static str>)]) -> (Value, Grants) {
        let mut permissions: std::collections::BTreeMap<usize, BTreeSet<&str>> = std::collections::BTreeMap::new();
        for (server, more) in asked {
            let server = server % self.servers.len();
            if !self.book.dead_servers.contains(&server) {
                permissions.entry(server).or_default().extend(more);
            }
        }
        let wire = permissions
            .iter()
            .map(|(server, permissions)| json!({"server_id": self.servers[*server].id, "permissions": permissions}));
        let wire = Value::Array(wire.collect());
        (wire, permissions.into_iter().map(|(server, permissions)| (server, rights(permissions))).collect())
    }

    async fn add_key(&mut self, agent: usize, body: Value, key: super::book::Key) -> Outcome {
        let mut whole = json!({"agent_id": self.agents[agent], "environment": "prod"});
        for (name, value) in body.as_object().expect("an object") {
            whole[name] = value.clone();
        }
        let reply = self.operator.post(self.on(), "/v1/keys", whole).await;
        expect(&reply, 201)?;
        let made = reply.json;
        self.keys.push(text(&made, "id"));
        self.book.keys.push(key);
        self.add_secret(self.keys.len() - 1, &made);
        Ok(())
    }

    fn add_secret(&mut self, key: usize, made: &Value) {
        let agent = self.agents[self.book.keys[key].agent].clone();
        self.secrets.push(Key { id: self.keys[key].clone(), agent, key: text(made, "key") });
        self.book.secrets.push(super::book::Secret { key, ends: seconds(&made["expires_at"]) });
    }

    pub(super) fn living_agent(&self, which: usize) -> Option<usize> {
        let agent = which % self.agents.len();
        (!self.book.dead_agents.contains(&agent)).then_some(agent)
    }

    /// A key whose agent was not deleted.
    pub(super) fn key(&self, which: usize) -> Option<usize> {
        let key = which.checked_rem(self.keys.len())?;
        self.living_agent(self.book.keys[key].agent).map(|_| key)
    }

    async fn issue(&mut self, agent: usize, grants: &[(usize, Vec<&'static str>)], direct: Option<bool>) -> Outcome {
        let ((wire, grants), Some(agent)) = (self.grants(grants), self.living_agent(agent)) else { return Ok(()) };
        if grants.is_empty() {
            return Ok(());
        }
        let mut body = json!({"grants": wire});
        if let Some(direct) = direct {
            body["direct"] = direct.into();
        }
        let direct = direct.unwrap_or(grants.len() == 1);
        let key = super::book::Key { agent, direct, grants, roles: BTreeSet::new(), disabled: false, revoked: false };
        self.add_key(agent, body, key).await
    }

    async fn issue_with_role(&mut self, agent: usize, role: usize) -> Outcome {
        let (role, Some(agent)) = (role % self.roles.len(), self.living_agent(agent)) else { return Ok(()) };
        let body = json!({"roles": [self.roles[role]]});
        let key = super::book::Key {
            agent,
            direct: false,
            grants: Grants::new(),
            roles: [role].into(),
            disabled: false,
            revoked: false,
        };
        self.add_key(agent, body, key).await
    }

    async fn rotate(&mut self, which: usize, grace: i64) -> Outcome {
        let Some(key) = self.key(which) else { return Ok(()) };
        let path = format!("/v1/keys/{}/rotate", self.keys[key]);
        let now = self.now();
        let reply = self.operator.post(self.on(), &path, json!({"grace_seconds": grace})).await;
        if self.book.keys[key].revoked {
            return expect(&reply, 409);
        }
        let own: Vec<usize> = (0..self.secrets.len()).filter(|secret| self.book.secrets[*secret].key == key).collect();
        let living = own.iter().filter(|secret| now < self.book.secrets[**secret].ends).count();
        if living > 1 && grace > 0 && reply.status == 409 {
            // An overlap runs, and the newest secret was seen in use.
            return Ok(());
        }
        expect(&reply, 200)?;
        let newest = *own.last().expect("a secret");
        if grace == 0 {
            for secret in own {
                self.book.secrets[secret].ends = self.book.secrets[secret].ends.min(now);
            }
        } else if living > 1 {
            // The newest, never seen in use, is replaced; the older one keeps its end.
            self.book.secrets[newest].ends = now;
        } else {
            let ends = &mut self.book.secrets[newest].ends;
            let expected = (*ends).min(now + grace);
            // To the second only the reply knows when the rotation was.
            let said = reply.json.get("previous_expires_at").map_or(expected, seconds);
            if (said - expected).abs() > 5 {
                return Err(format!("the older secret ends at {said}, by the book at {expected}"));
            }
            *ends = said;
        }
        self.add_secret(key, &reply.json);
        Ok(())
    }

    fn book_token(&mut self, reply: &Reply, mut token: super::book::Token) -> Outcome {
        expect(reply, 200)?;
        let jwt = text(&reply.json, "access_token");
        let claims = claims(&jwt);
        let (iat, exp) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
        if exp > token.ends.min(iat + LIFE) {
            return Err(format!("it lives longer than its parents: {claims}, {token:?}"));
        }
        token.ends = exp;
        token.born.push((iat, self.book.now_step));
        token.line.push(self.tokens.len());
        token.signed_by.insert(text(&header(&jwt), "kid"));
        self.tokens.push(jwt);
        self.book.tokens.push(token);
        Ok(())
    }

    /// Whether a secret is so near its end that nobody can say.
    fn unsure(&self, secret: usize) -> bool {
        (self.book.secrets[secret].ends - self.now()).abs() <= 3
    }

    fn of_secret(&self, secret: usize, server: usize) -> super::book::Token {
        super::book::Token {
            server,
            rights: self.book.held(self.book.secrets[secret].key, server),
            secrets: vec![secret],
            born: Vec::new(),
            line: Vec::new(),
            signed_by: BTreeSet::new(),
            ends: self.book.secrets[secret].ends,
            actors: 0,
        }
    }

    async fn session(&mut self, which: usize, server: usize, scope: Option<&[&'static str]>) -> Outcome {
        let Some(secret) = which.checked_rem(self.secrets.len()) else { return Ok(()) };
        if self.unsure(secret) {
            return Ok(());
        }
        let server = server % self.servers.len();
        let scope_text = scope.map(|scope| scope.join(" ")).unwrap_or_default();
        let form = [("resource", self.servers[server].resource.as_str()), ("scope", &scope_text)];
        let works = self.book.works(secret, self.now());
        let reply = self.secrets[secret].session_with(self.on(), &form).await;
        if !works {
            return expect(&reply, 401);
        }
        let mut token = self.of_secret(secret, server);
        if let Some(scope) = scope {
            token.rights = token.rights.intersection(&rights(scope.iter().copied())).copied().collect();
        }
        let there = !self.book.servers[server] && !self.book.dead_servers.contains(&server);
        if token.rights.is_empty() || !there { expect(&reply, 400) } else { self.book_token(&reply, token) }
    }

    /// What somebody shows at the token endpoint, and what it is worth there; the outer `None`: nobody can say.
    fn shown(&self, which: usize) -> Option<(String, Option<super::book::Token>)> {
        let which = which.checked_rem(self.secrets.len() + self.tokens.len())?;
        let now = self.now();
        let Some(token) = which.checked_sub(self.secrets.len()) else {
            let worth = self.book.works(which, now).then(|| {
                let servers = self.book.servers_of(self.book.secrets[which].key);
                // Without a resource there must be one server only.
                let server = if let [only] = servers[..] { only } else { usize::MAX };
                if server == usize::MAX {
                    super::book::Token { server, ..self.of_secret(which, 0) }
                } else {
                    self.of_secret(which, server)
                }
            });
            return (!self.unsure(which)).then(|| (self.secrets[which].key.clone(), worth));
        };
        let it = &self.book.tokens[token];
        let near = (it.ends - now).abs() <= 3 || it.secrets.iter().any(|secret| self.unsure(*secret));
        let worth = self.book.token_at(token, it.server, now).map(|rights| super::book::Token { rights, ..it.clone() });
        (!near).then(|| (self.tokens[token].clone(), worth))
    }

    async fn exchange(&mut self, subject: usize, actor: Option<usize>, scope: Option<&[&'static str]>) -> Outcome {
        let Some((subject_token, worth)) = self.shown(subject) else { return Ok(()) };
        let scope_text = scope.map(|scope| scope.join(" ")).unwrap_or_default();
        let mut form = vec![("scope", scope_text.as_str())];
        let acting = match actor.map(|actor| self.shown(actor)) {
            Some(None) => return Ok(()),
            Some(Some(acting)) => Some(acting),
            None => None,
        };
        if let Some((actor_token, _)) = &acting {
            form.push(("actor_token", actor_token));
            form.push(("actor_token_type", "urn:ietf:params:oauth:token-type:access_token"));
        }
        let reply = exchange(self.on(), &subject_token, &form).await;
        let by_secret =
            actor.is_some_and(|actor| actor % (self.secrets.len() + self.tokens.len()) < self.secrets.len());
        let dead_actor = matches!(acting, Some((_, None)));
        let acting = acting.and_then(|(_, worth)| worth);
        let both = worth.filter(|_| !dead_actor);
        let Some(token) = both.and_then(|worth| self.smaller(worth, acting, by_secret, scope)) else {
            return expect(&reply, 400);
        };
        if reply.json["error_description"].as_str().is_some_and(|why| why.contains("too often")) && token.line.len() > 6
        {
            return expect(&reply, 400);
        }
        self.book_token(&reply, token)
    }

    /// The smaller token; `None`: there is none.
    fn smaller(
        &self,
        mut token: super::book::Token,
        acting: Option<super::book::Token>,
        by_secret: bool,
        scope: Option<&[&'static str]>,
    ) -> Option<super::book::Token> {
        let server = token.server;
        if server == usize::MAX || self.book.servers[server] || self.book.dead_servers.contains(&server) {
            return None;
        }
        if let Some(actor) = acting {
            // An actor's key acts wherever it has rights; an actor's token only at its server.
            let actor = if by_secret { self.of_secret(actor.secrets[0], server) } else { actor };
            if actor.server != server {
                return None;
            }
            token.rights = token.rights.intersection(&actor.rights).copied().collect();
            token.secrets.extend(actor.secrets);
            token.born.extend(actor.born);
            token.line.extend(actor.line);
            token.signed_by.extend(actor.signed_by);
            token.ends = token.ends.min(actor.ends);
            token.actors += 1;
        }
        if let Some(scope) = scope {
            token.rights = token.rights.intersection(&rights(scope.iter().copied())).copied().collect();
        }
        (!token.rights.is_empty() && token.actors <= 3).then_some(token)
    }
}

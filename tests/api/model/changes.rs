//! The steps that change rights or end something.

use serde_json::json;

use super::book::Of;
use super::play::{Outcome, Stage, expect};
use super::step::{Level, Thing};
use crate::support::jwt::{claims, header};
use crate::support::text;

impl Stage<'_> {
    pub(super) async fn narrow(&mut self, which: usize, grants: &[(usize, Vec<&'static str>)]) -> Outcome {
        let ((wire, grants), Some(key)) = (self.grants(grants), self.key(which)) else { return Ok(()) };
        let body = json!({"grants": wire, "direct": self.book.keys[key].direct});
        let reply = self.operator.patch(self.on(), &format!("/v1/keys/{}", self.keys[key]), body).await;
        expect(&reply, 200)?;
        self.book.keys[key].grants = grants;
        Ok(())
    }

    pub(super) async fn set_roles(&mut self, which: usize, roles: &[usize]) -> Outcome {
        let Some(key) = self.key(which) else { return Ok(()) };
        let roles: std::collections::BTreeSet<usize> = roles.iter().map(|role| role % self.roles.len()).collect();
        let ids: Vec<&str> = roles.iter().map(|role| self.roles[*role].as_str()).collect();
        let direct = self.book.keys[key].direct && roles.is_empty();
        let body = json!({"roles": ids, "direct": direct});
        let reply = self.operator.patch(self.on(), &format!("/v1/keys/{}", self.keys[key]), body).await;
        expect(&reply, 200)?;
        (self.book.keys[key].roles, self.book.keys[key].direct) = (roles, direct);
        Ok(())
    }

    pub(super) async fn change_role(&mut self, which: usize, grants: &[(usize, Vec<&'static str>)]) -> Outcome {
        let (role, (wire, grants)) = (which % self.roles.len(), self.grants(grants));
        let path = format!("/v1/roles/{}", self.roles[role]);
        let reply = self.operator.patch(self.on(), &path, json!({"grants": wire})).await;
        expect(&reply, 200)?;
        self.book.roles[role] = grants;
        Ok(())
    }

    async fn revoke(&self, body: serde_json::Value) -> Outcome {
        let reply = self.operator.post(self.on(), "/v1/revocations", body).await;
        expect(&reply, 201)
    }

    pub(super) async fn revoke_token(&mut self, which: usize) -> Outcome {
        let Some(token) = which.checked_rem(self.tokens.len()) else { return Ok(()) };
        let claims = claims(&self.tokens[token]);
        if self.now() + 2 >= self.book.tokens[token].ends {
            // It is dead, and its row may be gone by now.
            let body = json!({"kind": "token", "id": claims["jti"]});
            let reply = self.operator.post(self.on(), "/v1/revocations", body).await;
            return if reply.status == 404 { Ok(()) } else { expect(&reply, 201) };
        }
        if which.is_multiple_of(2) {
            self.revoke(json!({"kind": "token", "id": claims["jti"]})).await?;
        } else {
            let server = &self.servers[self.book.tokens[token].server];
            let reply = server.revoke(self.on(), &self.tokens[token]).await;
            let asks = !self.book.servers[self.book.tokens[token].server];
            let asks = asks && !self.book.dead_servers.contains(&self.book.tokens[token].server);
            expect(&reply, if asks { 200 } else { 401 })?;
            // After its signing key is gone a text is no token of ours any more; it is dead all the same.
            if !asks {
                return Ok(());
            }
        }
        self.book.dead_tokens.insert(token);
        Ok(())
    }

    pub(super) async fn revoke_key(&mut self, which: usize) -> Outcome {
        let Some(key) = self.key(which) else { return Ok(()) };
        if which.is_multiple_of(2) {
            self.revoke(json!({"kind": "key", "id": self.keys[key]})).await?;
        } else {
            let path = format!("/v1/keys/{}/revoke", self.keys[key]);
            expect(&self.operator.post(self.on(), &path, json!({})).await, 200)?;
        }
        self.book.keys[key].revoked = true;
        Ok(())
    }

    pub(super) async fn cut_off(&mut self, what: Level, which: usize, before: Option<i64>) -> Outcome {
        let (kind, id, of) = match what {
            Level::Agent => {
                let Some(agent) = self.living_agent(which) else { return Ok(()) };
                ("agent", self.agents[agent].clone(), vec![Of::Agent(agent)])
            }
            Level::Server => {
                let server = which % self.servers.len();
                if self.book.dead_servers.contains(&server) {
                    return Ok(());
                }
                ("server", self.servers[server].id.clone(), vec![Of::Server(server)])
            }
            Level::Project => {
                let project = which % self.projects.len();
                let of = |number: usize| number % self.projects.len() == project;
                let agents = (0..self.agents.len()).filter(|agent| of(*agent)).map(Of::Agent);
                let servers = (0..self.servers.len()).filter(|server| of(*server)).map(Of::Server);
                ("project", self.projects[project].clone(), agents.chain(servers).collect())
            }
            Level::All => ("all", "all".to_owned(), vec![Of::All]),
        };
        let mut body = json!({"kind": kind, "id": id});
        let before = before.map(|ago| self.now() - ago);
        if let Some(before) = before {
            let time = mcp_authority::types::clock::Timestamp::from_seconds(before).to_utc();
            let time = time.format(&time::format_description::well_known::Rfc3339).expect("a time");
            body["issued_before"] = time.into();
        }
        self.revoke(body).await?;
        let step = self.book.now_step;
        self.book.cuts.extend(of.into_iter().map(|of| (of, step, before)));
        Ok(())
    }

    pub(super) async fn revoke_signing_key(&mut self, which: usize) -> Outcome {
        let Some(token) = which.checked_rem(self.tokens.len()) else { return Ok(()) };
        if self.now() + 2 >= self.book.tokens[token].ends {
            // The key that signed it may be gone by now.
            return Ok(());
        }
        let kid = text(&header(&self.tokens[token]), "kid");
        self.revoke(json!({"kind": "signing_key", "id": kid})).await?;
        self.book.dead_signers.insert(kid);
        Ok(())
    }

    pub(super) async fn switch(&mut self, what: Thing, which: usize, disabled: bool) -> Outcome {
        let (path, of) = match what {
            Thing::Key => {
                let Some(key) = self.key(which) else { return Ok(()) };
                (format!("/v1/keys/{}", self.keys[key]), Of::Key(key))
            }
            Thing::Agent => {
                let Some(agent) = self.living_agent(which) else { return Ok(()) };
                (format!("/v1/agents/{}", self.agents[agent]), Of::Agent(agent))
            }
            Thing::Server => {
                let server = which % self.servers.len();
                if self.book.dead_servers.contains(&server) {
                    return Ok(());
                }
                (format!("/v1/servers/{}", self.servers[server].id), Of::Server(server))
            }
        };
        expect(&self.operator.patch(self.on(), &path, json!({"disabled": disabled})).await, 200)?;
        let state = match of {
            Of::Key(key) => &mut self.book.keys[key].disabled,
            Of::Agent(agent) => &mut self.book.agents[agent],
            Of::Server(server) => &mut self.book.servers[server],
            Of::All => return Ok(()),
        };
        let switched_off = disabled && !*state;
        *state = disabled;
        if switched_off {
            self.book.cut(of);
        }
        Ok(())
    }

    /// Deletes for good; the last one of a kind stays, so that the story goes on.
    pub(super) async fn delete(&mut self, what: Thing, which: usize) -> Outcome {
        if what == Thing::Agent {
            let Some(agent) = self.living_agent(which) else { return Ok(()) };
            if self.book.dead_agents.len() + 1 < self.agents.len() {
                let path = format!("/v1/agents/{}", self.agents[agent]);
                expect(&self.operator.delete(self.on(), &path).await, 200)?;
                self.book.dead_agents.insert(agent);
            }
            return Ok(());
        }
        let server = which % self.servers.len();
        if self.book.dead_servers.contains(&server) || self.book.dead_servers.len() + 1 >= self.servers.len() {
            return Ok(());
        }
        let path = format!("/v1/servers/{}", self.servers[server].id);
        expect(&self.operator.delete(self.on(), &path).await, 200)?;
        self.book.dead_servers.insert(server);
        let of_keys = self.book.keys.iter_mut().map(|key| &mut key.grants);
        for grants in of_keys.chain(&mut self.book.roles) {
            grants.remove(&server);
        }
        Ok(())
    }
}

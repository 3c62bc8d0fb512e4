//! Every secret and every token, shown to every server, against the book.

use std::sync::Arc;

use mcp_authority::gate::{Active, Asker, Question, Server, Verdict, introspect};
use mcp_authority::types::id::ServerId;

use super::book::{Rights, rights};
use super::play::{Outcome, Stage};

/// Of each step so many answers are compared over HTTP too; all others by the function behind that route.
const OVER_HTTP: usize = 3;

impl Stage<'_> {
    /// Compares everything.
    pub(super) async fn compare(&mut self) -> Outcome {
        let servers: Vec<Option<Arc<Server>>> = (0..self.servers.len()).map(|server| self.asker(server)).collect();
        for (index, server) in servers.iter().enumerate() {
            let there = !self.book.dead_servers.contains(&index) && !self.book.servers[index];
            if there != server.is_some() {
                return Err(format!("server {index} is there: {there}"));
            }
            let Some(server) = server else { continue };
            let asker = Asker::Server(server);
            // Other stories are told by the same task.
            tokio::task::yield_now().await;
            for which in 0..self.secrets.len() + self.tokens.len() {
                let before = self.now();
                let found = self.ask(self.text(which), asker).await?;
                self.agrees(which, index, before, found.as_ref())?;
            }
        }
        for number in 0..OVER_HTTP {
            let (server, which) = (self.book.now_step + number, self.book.now_step * OVER_HTTP + number);
            let server = server % self.servers.len();
            let Some(which) = which.checked_rem(self.secrets.len() + self.tokens.len()) else { continue };
            if servers[server].is_none() {
                continue;
            }
            let before = self.now();
            let answer = self.servers[server].introspect(self.on(), self.text(which)).await;
            let found = (answer["active"] == true).then(|| {
                let permissions = answer["permissions"].as_array().expect("a list");
                rights(permissions.iter().map(|permission| permission.as_str().expect("a text")))
            });
            let agrees = self.agrees(which, server, before, found.as_ref());
            agrees.map_err(|error| format!("over HTTP: {error}"))?;
        }
        Ok(())
    }

    fn text(&self, which: usize) -> &str {
        which
            .checked_sub(self.secrets.len())
            .map_or_else(|| self.secrets[which].key.as_str(), |token| &self.tokens[token])
    }

    /// The server as the node knows it, if it may ask.
    fn asker(&self, server: usize) -> Option<Arc<Server>> {
        let id: ServerId = self.servers[server].id.parse().expect("an id");
        self.on().app.live.memory().servers.get(&id).filter(|server| !server.disabled).cloned()
    }

    async fn ask(&self, token: &str, asker: Asker<'_>) -> Result<Option<Rights>, String> {
        let question = Question { token, asker, address: None };
        let live = &self.on().app.live;
        let told = |verdict: Verdict<'_>| match verdict {
            Verdict::Active(Active::Key { permissions, .. } | Active::Session { permissions, .. }) => {
                Ok(Some(rights(permissions.iter().map(mcp_authority::types::permission::Permission::as_str))))
            }
            Verdict::Inactive(..) => Ok(None),
            Verdict::Ahead(position) => Err(format!("the node is behind its own token: {position}")),
        };
        let mut answer = None;
        // A lease that ends because this machine is busy is no answer; the next round is.
        let answered = async || {
            answer = live.answer(|view| told(introspect(view, question))).ok();
            answer.is_some()
        };
        self.on().until("the node answers", answered).await;
        answer.expect("an answer")
    }

    /// What was found is what the book says. Where the two seconds around now decide, either is right.
    fn agrees(&mut self, which: usize, server: usize, before: i64, found: Option<&Rights>) -> Outcome {
        self.asked += 1;
        let worth = |now: i64| match which.checked_sub(self.secrets.len()) {
            Some(token) => self.book.token_at(token, server, now),
            None => self.book.secret_at(which, server, now),
        };
        let (early, late) = (worth(before - 1), worth(self.now() + 1));
        if early != late || early.as_ref() == found {
            return Ok(());
        }
        let what = match which.checked_sub(self.secrets.len()) {
            Some(token) => format!("token {token} {:?}", self.book.tokens[token]),
            None => format!("secret {which} {:?}", self.book.secrets[which]),
        };
        Err(format!("{what} at server {server} is worth {found:?}, by the book {early:?}\n{:#?}", self.book))
    }
}

//! Who asks for a change or a read, and how far their rights reach.

use std::net::IpAddr;

/// The scope that stands for every scope.
pub const EVERYTHING: &str = "*";

/// An operator, a command on the machine, or a holder acting on their own things.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `opr_…`, `key_…`, `srv_…`, or `machine` for a command run beside the database.
    pub actor: String,
    /// `NOUN:read`, `NOUN:write`, `grants:write` or `*`.
    pub scopes: Vec<String>,
    /// The projects it reaches; `None`: all.
    pub projects: Option<Vec<String>>,
    /// From where.
    pub address: Option<IpAddr>,
    /// The request's id, also in logs.
    pub request_id: Option<String>,
}

impl Caller {
    /// Somebody with a shell on the machine and the database's password: may do everything.
    #[must_use]
    pub fn machine() -> Self {
        Self { scopes: vec![EVERYTHING.to_owned()], ..Self::nobody("machine".to_owned()) }
    }

    /// An actor without any right, for records of what it did to its own things.
    #[must_use]
    pub const fn nobody(actor: String) -> Self {
        Self { actor, scopes: Vec::new(), projects: None, address: None, request_id: None }
    }

    /// Whether it has the scope; `X:write` includes `X:read`.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == EVERYTHING || covers(held, scope))
    }

    /// Whether it reaches the project.
    #[must_use]
    pub fn reaches(&self, project: &str) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.iter().any(|own| own == project))
    }

    /// For statements: the projects as a parameter, null for all.
    #[must_use]
    pub fn projects(&self) -> Option<&[String]> {
        self.projects.as_deref()
    }

    /// Whether `scopes` on `projects` is no more than it has itself (guarantee: nobody gives away what he lacks).
    #[must_use]
    pub fn may_give(&self, scopes: &[String], projects: Option<&[String]>) -> bool {
        let within = match projects {
            None => self.projects.is_none(),
            Some(projects) => projects.iter().all(|project| self.reaches(project)),
        };
        within && scopes.iter().all(|scope| self.has(scope))
    }
}

fn covers(held: &str, wanted: &str) -> bool {
    held == wanted
        || (held.strip_suffix(":write").is_some() && wanted.strip_suffix(":read") == held.strip_suffix(":write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str], projects: Option<&[&str]>) -> Caller {
        Caller {
            scopes: scopes.iter().map(ToString::to_string).collect(),
            projects: projects.map(|own| own.iter().map(ToString::to_string).collect()),
            ..Caller::nobody("opr_x".to_owned())
        }
    }

    #[test]
    fn write_includes_read_and_nothing_else() {
        let by = caller(&["keys:write", "agents:read"], None);
        for (scope, held) in [
            ("keys:read", true),
            ("keys:write", true),
            ("agents:read", true),
            ("agents:write", false),
            ("*", false),
            ("servers:read", false),
        ] {
            assert_eq!(by.has(scope), held, "{scope}");
        }
        assert!(caller(&["*"], None).has("anything:write"));
    }

    #[test]
    fn guarantee_22_nobody_gives_away_more_than_he_has() {
        let own = |scopes: &[&str]| scopes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let by = caller(&["keys:write"], Some(&["a", "b"]));
        assert!(by.may_give(&own(&["keys:read"]), Some(&own(&["a"]))));
        assert!(!by.may_give(&own(&["keys:read"]), None), "all projects");
        assert!(!by.may_give(&own(&["keys:read"]), Some(&own(&["c"]))));
        assert!(!by.may_give(&own(&["agents:read"]), Some(&own(&["a"]))));
        assert!(!by.may_give(&own(&["*"]), Some(&own(&["a"]))));
    }
}

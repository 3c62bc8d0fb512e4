//! What a request of an MCP client needs: the table of the permissions as one function.

use std::borrow::Cow;
use std::fmt;

use super::grammar;
use super::grammar::PROMPTS_GET;
use super::grammar::RESOURCES_READ;
use super::grammar::SUBSCRIPTIONS_LISTEN;
use super::grammar::TOOLS_CALL;
use super::wire;

/// One request or notification of an MCP client, reduced to what its permission depends on. The
/// texts are those of the message, not encoded in any way; members that the method does not use are
/// ignored.
#[derive(Clone, Debug, Default)]
pub struct Call<'a> {
    /// The JSON-RPC method.
    pub method: &'a str,
    /// `params.name`, of `tools/call` and `prompts/get`.
    pub name: Option<&'a str>,
    /// `params.uri`, of `resources/read`, `resources/subscribe` and `resources/unsubscribe`.
    pub uri: Option<&'a str>,
    /// `params.ref`, of `completion/complete`.
    pub reference: Option<Reference<'a>>,
    /// The URIs in `resourceSubscriptions`, of `subscriptions/listen`. As many as the message that
    /// the caller has accepted holds.
    pub subscriptions: Vec<&'a str>,
}

/// What a completion is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `ref/prompt`: its `name`.
    Prompt(&'a str),
    /// `ref/resource`: its `uri`, which may be a template. That is compared as the text it is.
    Resource(&'a str),
}

/// What a call needs beside an active credential. Ask [`super::Permissions::allows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed<'a> {
    /// Only an active credential.
    Nothing,
    /// One permission.
    One(Need<'a>),
    /// Each of these.
    All(Vec<Need<'a>>),
}

impl<'a> Needed<'a> {
    /// All that must be allowed; empty if only an active credential is needed.
    #[must_use]
    pub fn needs(&self) -> &[Need<'a>] {
        match self {
            Self::Nothing => &[],
            Self::One(need) => std::slice::from_ref(need),
            Self::All(needs) => needs,
        }
    }
}

/// One thing that must be allowed: a method with one name, a method, or (`*`) everything.
///
/// Displayed as the permission that would allow just this, for `insufficient_scope`. Unlike a
/// permission it may be longer than [`super::PERMISSION_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need<'a> {
    method: &'static str,
    // In wire form. None for methods that name nothing.
    name: Option<Cow<'a, str>>,
    exact_only: bool,
}

impl<'a> Need<'a> {
    /// Everything on the server, which only `*` allows.
    pub(super) const EVERYTHING: Self = Self::whole(grammar::EVERYTHING);

    const fn whole(method: &'static str) -> Self {
        Self { method, name: None, exact_only: false }
    }

    /// A missing name is one that no pattern matches: only the bare method and `*` allow it.
    fn named(method: &'static str, name: Option<&'a str>) -> Self {
        let name = wire::wire_form(name.unwrap_or_default());
        let exact_only = method == RESOURCES_READ && wire::is_ambiguous(&name);
        Self { method, name: Some(name), exact_only }
    }

    /// The method, or `*`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The tool, prompt or URI in wire form.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether no wildcard in a pattern may match the name.
    pub(super) fn is_exact_only(&self) -> bool {
        self.exact_only
    }
}

impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None | Some("") => f.write_str(self.method),
            Some(name) => write!(f, "{}:{name}", self.method),
        }
    }
}

/// What the call needs. A method that is not known needs `*`, and so does a completion that does
/// not say what of.
#[must_use]
pub fn needed<'a>(call: &Call<'a>) -> Needed<'a> {
    match call.method {
        "tools/call" => Needed::One(Need::named(TOOLS_CALL, call.name)),
        "prompts/get" => Needed::One(Need::named(PROMPTS_GET, call.name)),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            Needed::One(Need::named(RESOURCES_READ, call.uri))
        }
        "subscriptions/listen" => {
            let uris = call.subscriptions.iter().map(|uri| Need::named(RESOURCES_READ, Some(uri)));
            Needed::All(std::iter::once(Need::whole(SUBSCRIPTIONS_LISTEN)).chain(uris).collect())
        }
        "completion/complete" => Needed::One(match call.reference {
            Some(Reference::Prompt(name)) => Need::named(PROMPTS_GET, Some(name)),
            Some(Reference::Resource(uri)) => Need::named(RESOURCES_READ, Some(uri)),
            None => Need::EVERYTHING,
        }),
        free if grammar::FREE_METHODS.contains(&free) || grammar::is_notification(free) => Needed::Nothing,
        other => {
            let known = grammar::WHOLE_METHODS.into_iter().find(|method| *method == other);
            Needed::One(known.map_or(Need::EVERYTHING, Need::whole))
        }
    }
}

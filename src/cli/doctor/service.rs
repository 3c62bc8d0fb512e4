//! The service as its callers see it: ready on this machine, and reached by its public address.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::{Check, Report};
use crate::cli::healthcheck;
use crate::config::Config;

/// How long an answer may take.
const SECONDS_MAX: Duration = Duration::from_secs(5);
/// No answer that is looked at is larger.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Where clients look for the metadata; all four must say the same.
const METADATA: [&str; 4] = [
    "/.well-known/oauth-authorization-server/oauth",
    "/oauth/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration/oauth",
    "/oauth/.well-known/openid-configuration",
];
const SEE_LOG: &str =
    "See the service's log for the reason; `mcp-authority doctor` on the database's machine may say more";

/// `known` are the ids of the signing keys in the database, where it could be asked.
pub(super) async fn look(config: &Config, known: Option<&[String]>, report: &mut Report) {
    let clients = healthcheck::client().and_then(|here| Ok((here, public_client()?)));
    let (here, public) = match clients {
        Ok(clients) => clients,
        Err(error) => {
            let fix = "Install the system's root certificates (Debian: ca-certificates)";
            report.add(Check::failure("service", format!("no HTTP client can be made: {}", chain(&error)), fix));
            return;
        }
    };
    let url = healthcheck::ready_url(config);
    let runs = match fetch(&here, &url).await {
        Ok((status, body)) => ready(&url, status, &body, report),
        Err(error) => {
            let detail = format!("nothing answers at {url}: {error}");
            report.add(Check::warning(
                "service",
                detail,
                "If the service is to run here, start it: `mcp-authority serve`",
            ));
            false
        }
    };
    let own = match known {
        Some(known) => known.iter().cloned().collect(),
        None if runs => key_ids(&here, &url.replace("/health/ready", "/oauth/jwks")).await.unwrap_or_default(),
        None => HashSet::new(),
    };
    if public_url(config, &public, (&own, runs), report).await {
        report.add(issuer(config, &public).await);
    }
}

/// As callers do: the certificate must be good, and nothing is followed elsewhere.
fn public_client() -> reqwest::Result<Client> {
    Client::builder().timeout(SECONDS_MAX).redirect(reqwest::redirect::Policy::none()).no_proxy().build()
}

async fn fetch(client: &Client, url: &str) -> Result<(StatusCode, Value), String> {
    let mut response = client.get(url).send().await.map_err(|error| chain(&error))?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| chain(&error))? {
        body.extend_from_slice(&part);
        if body.len() > BODY_BYTES_MAX {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
    }
    Ok((response.status(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// The reason of a failed request stands in the last of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    text
}

/// Adds what the service says about itself; `true` when it is ours that answers.
fn ready(url: &str, status: StatusCode, body: &Value, report: &mut Report) -> bool {
    let word = |name: &str| body.get(name).and_then(Value::as_str);
    let Some(feed) = word("feed") else {
        let fix = "Stop the other program, or choose another MCPA_LISTEN";
        report.add(Check::failure("service", format!("something else answers at {url} ({status})"), fix));
        return false;
    };
    if feed != "held" {
        let detail = format!("the lease is {feed}: this node cannot prove that it is current, and answers 503");
        let fix = if feed == "dead" {
            "Restart the service; if it stays so, another release or another database is needed, and its log says which"
        } else {
            "See that the node reaches the database and that nothing there holds locks on `nodes` or `feed_head`"
        };
        report.add(Check::failure("lease", detail, fix));
    }
    let wrong: Vec<String> = [("database", "ok"), ("migrations", "current"), ("audit", "ok")]
        .into_iter()
        .filter_map(|(name, right)| word(name).filter(|found| *found != right).map(|found| format!("{name}: {found}")))
        .collect();
    if !wrong.is_empty() {
        report.add(Check::failure("service", format!("{url} answers {status}: {}", wrong.join(", ")), SEE_LOG));
    } else if feed == "held" && !status.is_success() {
        report.add(Check::failure("service", format!("{url} answers {status}"), SEE_LOG));
    } else if feed == "held" {
        report.add(Check::ok("service", format!("ready at {url}")));
    }
    true
}

/// The ids of the keys that a service publishes.
async fn key_ids(client: &Client, url: &str) -> Result<HashSet<String>, String> {
    let (status, body) = fetch(client, url).await?;
    let ids = |keys: &Vec<Value>| keys.iter().filter_map(|key| Some(key.get("kid")?.as_str()?.to_owned())).collect();
    let found: Option<HashSet<String>> = body.get("keys").and_then(Value::as_array).map(ids);
    found.filter(|_| status.is_success()).ok_or_else(|| format!("{url} answers {status} and no key set"))
}

/// Whether the public address leads to this service: the keys published there are ours.
async fn public_url(
    config: &Config,
    client: &Client,
    (own, runs): (&HashSet<String>, bool),
    report: &mut Report,
) -> bool {
    const NAME: &str = "public_url";
    let url = &config.public_url;
    let found = key_ids(client, &format!("{url}/oauth/jwks")).await;
    let fix = format!("Set MCPA_PUBLIC_URL to the address that callers use, or let {url} lead to {}", config.listen);
    let check = match &found {
        Err(why) if runs => Check::failure(NAME, format!("{url} does not lead to this service: {why}"), fix),
        Err(why) => {
            Check::warning(NAME, format!("{url} could not be looked at: {why}"), "Start the service, then look again")
        }
        Ok(_) if own.is_empty() => {
            Check::warning(NAME, format!("{url} leads to an authority; whether to this one cannot be said"), SEE_LOG)
        }
        Ok(ids) if ids.is_disjoint(own) => Check::failure(
            NAME,
            format!("{url} leads to another authority: it publishes none of our signing keys"),
            fix,
        ),
        Ok(_) => Check::ok(NAME, format!("{url} leads to this service")),
    };
    report.add(check);
    found.is_ok_and(|ids| own.is_empty() || !ids.is_disjoint(own))
}

/// RFC 8414 §3.3: clients compare the issuer byte by byte.
async fn issuer(config: &Config, client: &Client) -> Check {
    let ours = config.public_url.issuer();
    let mut wrong = Vec::new();
    for path in METADATA {
        match fetch(client, &format!("{}{path}", config.public_url)).await {
            Ok((_, body)) if body.get("issuer").and_then(Value::as_str) == Some(ours.as_str()) => {}
            Ok((status, body)) => match body.get("issuer").and_then(Value::as_str) {
                Some(other) => wrong.push(format!("{path} says {other:?}")),
                None => wrong.push(format!("{path} answers {status} without an issuer")),
            },
            Err(error) => wrong.push(format!("{path}: {error}")),
        }
    }
    if wrong.is_empty() {
        return Check::ok("issuer", format!("{ours}, in all metadata"));
    }
    let fix = "Start every node with this MCPA_PUBLIC_URL, and let the proxy pass all four paths on unchanged";
    Check::failure("issuer", format!("the metadata must name {ours}, byte for byte, but {}", wrong.join(", ")), fix)
}

//! The real OpenID Connect provider: `tests/node/openid-provider.mjs`, a program of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{CALLBACK, CLIENT_ID, CLIENT_SECRET, Certificates};

/// A running provider; it ends with this value.
pub(crate) struct Program {
    pub(crate) issuer: String,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// With two people: alice, who is in two groups, and bob, who is in none. `logout`: where it tells of sessions that end.
    pub(crate) fn start(certificates: &Certificates, logout: Option<&str>) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        // A Node.js of this folder's own stands before the system's, which may be too old.
        let own = folder.join("node_modules/node/bin/node");
        let mut process = Command::new(if own.exists() { own } else { "node".into() })
            .arg("openid-provider.mjs")
            .current_dir(&folder)
            .env("NODE_EXTRA_CA_CERTS", certificates.file("ca.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("Node.js; `scripts/setup test` installs it");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut program = Self { issuer: String::new(), process, input, output };
        let mut client = json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]});
        if let Some(logout) = logout {
            client["backchannel_logout_uri"] = json!(logout);
            client["backchannel_logout_session_required"] = json!(true);
        }
        let said = program.tell(&json!({
            "cert": certificates.file("cert.pem"), "key": certificates.file("key.pem"), "clients": [client],
            "accounts": {
                "alice": {"preferred_username": "Alice", "email": "alice@example.com", "email_verified": true, "groups": ["staff", "admins"]},
                "bob": {"preferred_username": "Bob", "email": "bob@example.com", "email_verified": false, "groups": []},
            },
        }));
        program.issuer = said["issuer"].as_str().expect("run `npm ci` in tests/node").to_owned();
        program
    }

    /// What is known of a person from now on.
    pub(crate) fn claims(&mut self, account: &str, claims: &Value) {
        self.tell(&json!({"account": account, "claims": claims}));
    }

    /// A person leaves.
    pub(crate) fn removes(&mut self, account: &str) {
        self.tell(&json!({"account": account}));
    }

    /// It signs with a new key, and publishes that one alone.
    pub(crate) fn rotates(&mut self) {
        self.tell(&json!({"rotate": true}));
    }

    fn tell(&mut self, what: &Value) -> Value {
        writeln!(self.input, "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

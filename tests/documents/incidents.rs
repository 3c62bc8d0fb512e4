//! docs/incidents.md: every block is run in order, and what each incident's commands achieve is looked at.

use mcp_authority::db::embedded::{Embedded, Role};
use sqlx::{ConnectOptions, Executor};

use super::instance::Instance;
use super::page::{Section, section, sections};
use super::shell::Shell;

const PAGE: &str = "docs/incidents.md";
/// A server, an agent with a key, a session token of it; and the questions that a server asks.
const WORLD: &str = r#"
json() { call "$URL$1" --data "$2"; }
world() {
  json /v1/servers '{"name":"files","resource":"https://'"$1"'.example.com/mcp"}' > server.json
  SERVER_ID=$(member id < server.json)
  SECRET=$(member client_secret < server.json)
  AGENT_ID=$(json /v1/agents '{"name":"researcher"}' | member id)
  issue
}
issue() {
  json /v1/keys '{"agent_id":"'"$AGENT_ID"'","environment":"prod","grants":[{"server_id":"'"$SERVER_ID"'","permissions":["tools/call"]}]}' > key.json
  KEY=$(member key < key.json)
  KEY_ID=$(member id < key.json)
  token
}
token() {
  TOKEN=$(curl --fail-with-body -sS -u "$KEY_ID:$KEY" -d grant_type=client_credentials "$URL/oauth/token" | member access_token)
}
active() { curl --fail-with-body -sS -u "$SERVER_ID:$SECRET" -d "token=$1" "$URL/oauth/introspect" | member active; }
"#;

/// A page that is being followed, with the world it happens in.
struct Story {
    instance: Instance,
    shell: Shell,
}

impl Story {
    fn run(&mut self, commands: &str) -> String {
        self.shell.run(commands)
    }

    fn holds(&mut self, variable: &str, value: &str) {
        let said = self.run(&format!("active \"${variable}\""));
        assert_eq!(said, value, "{variable}");
    }

    /// Runs a section's blocks; every receipt among what they write must be complete.
    fn follow(&mut self, title: &str) -> Vec<String> {
        section(PAGE, title).commands().map(|block| self.block(block)).collect()
    }

    fn block(&mut self, block: &str) -> String {
        let said = self.run(block);
        assert!(!said.contains("\"complete\": false"), "{said}");
        said
    }
}

/// A section's title, and what its commands must bring about.
type Incident = (&'static str, fn(&mut Story));

#[test]
fn every_incident_of_the_page_can_be_handled_with_its_commands() {
    let instance = Instance::start();
    let shell = instance.shell();
    let mut story = Story { instance, shell };
    let pages = sections(PAGE);
    let titles: Vec<&str> = pages.iter().map(|section| section.title.as_str()).collect();
    story.block(pages[0].commands().next().expect("the helpers"));
    story.run(WORLD);
    let incidents: [Incident; 8] = [
        ("A key leaked", a_key_leaked),
        ("An operator's key was stolen", an_operator_key_was_stolen),
        ("A server was compromised", a_server_was_compromised),
        ("A signing key was stolen", a_signing_key_was_stolen),
        ("An agent misbehaves", an_agent_misbehaves),
        ("Everything is suspicious", everything_is_suspicious),
        ("The audit was changed", the_audit_was_changed),
        ("A backup was restored", a_backup_was_restored),
    ];
    let handled: Vec<&str> = incidents.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles[2..], handled[..], "an incident without a test, or a test without its incident");
    for (_, incident) in incidents {
        incident(&mut story);
    }
    story.instance.stop();
}

fn a_key_leaked(story: &mut Story) {
    story.run("world leaked; LEAKED=$KEY");
    story.holds("KEY", "True");
    let said = story.follow("A key leaked");
    story.holds("KEY", "False");
    story.holds("TOKEN", "False");
    for receipt in &said[..2] {
        assert!(receipt.contains("\"complete\": true"), "{receipt}");
    }
    let position = |said: &str| said.lines().find(|line| line.contains("\"position\"")).map(str::to_owned);
    assert_eq!(position(&said[0]), position(&said[1]), "the second call has the first one's receipt");
    assert!(said[2].contains("ses_") && said[2].contains("revocation.created"), "{}", said[2]);
}

fn an_operator_key_was_stolen(story: &mut Story) {
    story.run(
        "OPERATOR_ID=opr_$(k=${OPERATOR_KEY#mcp_admin_}; echo \"${k:0:12}\"); STOLEN=$OPERATOR_KEY; world stolen
        json /v1/operators '{\"name\":\"back door\",\"scopes\":[\"*\"]}' > door.json",
    );
    let said = story.follow("An operator's key was stolen");
    assert!(said[0].contains("\"revoked\""), "{}", said[0]);
    assert!(said[1].contains("operator.created") && said[1].contains("key.issued"), "{}", said[1]);
    story.holds("KEY", "False");
    for key in ["$STOLEN", "$(member key < door.json)"] {
        let status = story.run(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -H \"Authorization: Bearer {key}\" \"$URL/v1/keys\""
        ));
        assert_eq!(status, "401", "{key}");
    }
}

fn a_server_was_compromised(story: &mut Story) {
    story.run("world elsewhere; cp key.json mistaken.json; ELSEWHERE=$SERVER_ID; ELSEWHERE_SECRET=$SECRET; ELSEWHERE_KEY=$KEY");
    story.run("world compromised; OLD_SECRET=$SECRET; active \"$ELSEWHERE_KEY\" # shown there by mistake");
    // What was seen is written behind, every second.
    story.run(
        "until call \"$URL/v1/keys/$(member id < mistaken.json)/events\" | grep -q \"$SERVER_ID\"; do sleep 0.2; done",
    );
    story.follow("A server was compromised");
    let status =
        "curl -s -o /dev/null -w '%{http_code}' -u \"$SERVER_ID:$OLD_SECRET\" -d token=x \"$URL/oauth/introspect\"";
    assert_eq!(story.run(status), "401", "the old secret asks no more");
    story.run("SECRET=$(cat client-secret); NEW=$(tail -n 1 new-keys.jsonl | member key)");
    story.holds("KEY", "False");
    story.holds("TOKEN", "False");
    story.holds("NEW", "True");
    assert_eq!(story.run("cat seen-keys.txt"), story.run("echo $KEY_ID"));
    assert_eq!(story.run("cat shown-by-mistake.txt"), story.run("member id < mistaken.json"));
    story.run("SERVER_ID=$ELSEWHERE SECRET=$ELSEWHERE_SECRET");
    story.holds("ELSEWHERE_KEY", "True");
}

fn a_signing_key_was_stolen(story: &mut Story) {
    story.run(
        "world signing; SIGNING_KID=$(echo \"${TOKEN%%.*}\" | python3 -c 'import sys, base64; \
        print(base64.urlsafe_b64decode(sys.stdin.read().strip() + \"==\").decode())' | member kid)",
    );
    story.holds("TOKEN", "True");
    let said = story.follow("A signing key was stolen");
    let stolen = story.run("echo $SIGNING_KID");
    let (before, after) = said[0].split_once("enforced").expect("the receipt between the key sets");
    assert!(before.contains(&stolen), "{before}");
    assert!(!after.contains(&stolen) && after.contains("\"kid\""), "{after}");
    story.holds("TOKEN", "False");
    story.run("token");
    story.holds("TOKEN", "True");
}

fn an_agent_misbehaves(story: &mut Story) {
    story.run("world agent");
    let blocks: Vec<String> = section(PAGE, "An agent misbehaves").commands().map(str::to_owned).collect();
    let [off, look, on] = &blocks[..] else { panic!("other blocks than the test knows: {blocks:?}") };
    story.block(off);
    story.holds("KEY", "False");
    story.holds("TOKEN", "False");
    let said = story.block(look);
    assert!(said.contains("ses_") && said.contains("agent.changed"), "{said}");
    story.block(on);
    story.holds("KEY", "True");
    story.holds("TOKEN", "False");
    story.run("token");
    story.holds("TOKEN", "True");
}

fn everything_is_suspicious(story: &mut Story) {
    story.run("world suspicious");
    story.follow("Everything is suspicious");
    story.holds("TOKEN", "False");
    story.holds("KEY", "True");
    story.run("token");
    story.holds("TOKEN", "True");
}

fn the_audit_was_changed(story: &mut Story) {
    // A checkpoint is signed every ten seconds, if there is something new.
    story.run("until call \"$URL/v1/audit/checkpoints\" | grep -q jws; do sleep 0.2; done");
    let said = story.follow("The audit was changed");
    assert!(said[1].contains("nothing was changed"), "{}", said[1]);
    tamper(
        story,
        "update audit_entries set body = replace(body::text, 'done', 'refused')::json where chain = 'changes' and position = 2",
    );
    let code = story.run("mcp-authority audit verify --checkpoint checkpoints.txt > findings.txt || echo $?");
    assert_eq!(code, "7");
    let found = story.run("cat findings.txt");
    assert!(found.contains("changes") && found.contains('2'), "{found}");
}

/// Changes the database behind the service's back.
fn tamper(story: &Story, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let data = story.instance.dir().join("data");
        let beside = Embedded::start(&data, Role::Command).await.expect("beside the service");
        let mut connection = beside.connect_options().connect().await.expect("connected");
        let done = connection.execute(statement).await.expect("the statement");
        assert_eq!(done.rows_affected(), 1);
    });
}

fn a_backup_was_restored(story: &mut Story) {
    story.run("world restored; HELD=$TOKEN");
    let copied = story.instance.dir().join("data").display().to_string();
    story.instance.stop();
    story.run(&format!("cp --archive '{copied}' backup"));
    story.instance.serve();
    story.run("call \"$URL/v1/keys/$KEY_ID/revoke\" --data '{}' > /dev/null");
    story.run("items /v1/audit action=revocation.created > revocations.jsonl");
    story.holds("KEY", "False");
    let page: Section = section(PAGE, "A backup was restored");
    let tests: Vec<&str> = page.prose.iter().filter_map(|line| line.strip_prefix("<!-- test: ")).collect();
    assert_eq!(tests, ["stop -->", "start -->"]);
    let blocks: Vec<&str> = page.commands().collect();
    let [restore, again] = blocks[..] else { panic!("other blocks than the test knows: {blocks:?}") };
    story.instance.stop();
    story.block(restore);
    story.instance.serve();
    story.holds("KEY", "True");
    story.holds("HELD", "False");
    story.block(again);
    story.holds("KEY", "False");
}

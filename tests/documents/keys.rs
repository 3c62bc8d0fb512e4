//! docs/keys.md: every block is run in order, and what they bring about is looked at.

use super::instance::Instance;
use super::page::{section, sections};
use super::shell::Shell;

const PAGE: &str = "docs/keys.md";
const WORLD: &str = r#"
call "$URL/v1/servers" --data '{"name":"files","resource":"https://files.example.com/mcp"}' > server.json
SERVER_ID=$(member id < server.json)
SECRET=$(member client_secret < server.json)
AGENT_ID=$(call "$URL/v1/agents" --data '{"name":"researcher"}' | member id)
active() { curl --fail-with-body -sS -u "$SERVER_ID:$SECRET" -d "token=$1" "$URL/oauth/introspect" | member active; }
"#;

fn follow(shell: &mut Shell, title: &str) -> Vec<String> {
    section(PAGE, title).commands().map(|block| shell.run(block)).collect()
}

fn active(shell: &mut Shell, key: &str) -> String {
    shell.run(&format!("active \"{key}\""))
}

#[test]
fn a_key_is_renewed_rotated_and_handed_over_with_the_commands_of_the_page() {
    let mut instance = Instance::start();
    let mut shell = instance.shell();
    shell.run(sections(PAGE)[0].commands().next().expect("the helpers"));
    shell.run(WORLD);
    let set = follow(&mut shell, "Policies");
    assert!(set[0].contains("172800") && set[0].contains("\"complete\": true"), "{}", set[0]);

    follow(&mut shell, "A program that renews its key by itself");
    assert_eq!(active(&mut shell, "$(< agent.key)"), "True");
    assert_eq!(active(&mut shell, "$OLD"), "True", "the overlap");
    assert_eq!(shell.run("[[ $(< agent.key) != \"$OLD\" ]] && stat -c %a agent.key"), "600");
    // Without a reason it changes nothing.
    shell.run(
        "cp agent.key before && ./renew-key \"$URL\" agent.key && cmp agent.key before && [[ ! -e agent.key.reply ]]",
    );
    // A file that holds no key is left as it is.
    shell.run(
        "echo nothing > wrong.key; ! ./renew-key \"$URL\" wrong.key now 2> /dev/null; [[ $(< wrong.key) == nothing ]]",
    );

    let said = follow(&mut shell, "By hand");
    assert_eq!(active(&mut shell, "$OLD"), "False", "finished");
    assert!(said[0].contains("last_used_at") && said[0].contains("superseded"), "{}", said[0]);
    assert!(said[1].contains("\"complete\": true"), "{}", said[1]);
    assert_eq!(active(&mut shell, "$(member key < rotated.json)"), "False", "taken back");
    assert_eq!(active(&mut shell, "$(< agent.key)"), "True");

    let said = follow(&mut shell, "To a person");
    assert!(said[0].contains("/claims/") && said[1].contains("\"waiting\""), "{said:?}");
    let page = shell.run(&format!("curl -sS -H 'Sec-Fetch-Site: same-origin' -X POST '{}'", said[0].trim()));
    let secret = page.split("mcp_prod_").nth(1).and_then(|rest| rest.split('<').next()).expect("the secret");
    assert_eq!(active(&mut shell, &format!("mcp_prod_{secret}")), "True");
    instance.stop();
}

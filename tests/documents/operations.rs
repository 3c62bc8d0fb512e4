//! docs/operations.md and docs/operators.md: every block is run in order. A comment before a block says what the reader
//! has done by then: stopped the service, started it, restored a copy.

use super::instance::Instance;
use super::page::read;
use super::shell::Shell;

/// The blocks of a page with what comes before each: `stop`, `start`, `restore`, `keys`.
fn steps(page: &str) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let (mut before, mut block) = (String::new(), None::<String>);
    for line in read(page).lines() {
        if let Some(open) = &mut block {
            if line == "```" {
                steps.push((std::mem::take(&mut before), block.take().unwrap_or_default()));
            } else {
                open.push_str(line);
                open.push('\n');
            }
        } else if line == "```sh" {
            block = Some(String::new());
        } else if let Some(comment) = line.strip_prefix("<!-- test: ") {
            comment.trim_end_matches(" -->").clone_into(&mut before);
        }
    }
    steps
}

fn status(shell: &mut Shell, key: &str) -> String {
    shell
        .run(&format!("curl -s -o /dev/null -w '%{{http_code}}' -H \"Authorization: Bearer {key}\" \"$URL/v1/agents\""))
}

#[test]
fn the_operations_of_the_page_can_be_done_with_its_commands() {
    let mut instance = Instance::start();
    let mut shell = instance.shell();
    let data = instance.dir().join("data").display().to_string();
    let steps = steps("docs/operations.md");
    assert_eq!(steps.len(), 8, "blocks came or went: look what this test should see of them");
    for (before, block) in &steps {
        match before.as_str() {
            "stop" => instance.stop(),
            "start" => instance.serve(),
            "restore" => drop(shell.run(&format!("mv '{data}' broken; cp --archive backup '{data}'"))),
            "keys" | "" => {}
            other => panic!("the test does not know `{other}`"),
        }
        let said = shell.run(block);
        if block.contains("health/ready") {
            assert!(said.contains("\"ready\""), "{said}");
        }
        if block.contains("dry_run") {
            assert!(said.contains("\"succeeded\":true"), "{said}");
        }
        if before == "keys" {
            instance.serve();
            shell.run(
                "until curl -fsS -H \"Authorization: Bearer $OPERATOR_KEY\" \"$URL/v1/nodes\" | \
                python3 -c 'import json, sys; assert len(json.load(sys.stdin)[\"items\"][0][\"secret_keys\"]) == 2'; do sleep 0.2; done",
            );
            assert_eq!(status(&mut shell, "$OPERATOR_KEY"), "200", "what the old secret key digested still works");
            instance.stop();
        }
    }
    assert_eq!(status(&mut shell, "$(cat operator.key.new)"), "200");
    assert_eq!(status(&mut shell, "$OPERATOR_KEY"), "200", "the old one works for the grace");
    assert!(shell.run("pg_restore --list authority.dump").contains("TABLE DATA public keys"));
    without_a_secret_key_that_is_needed(&mut instance, &mut shell);
}

/// The service says that a secret key is missing, rather than refuse everything.
fn without_a_secret_key_that_is_needed(instance: &mut Instance, shell: &mut Shell) {
    instance.stop();
    shell.run("head -c 32 /dev/urandom | base64 > \"$MCPA_DATA_DIR/secret.keys\"");
    let said = shell.run("mcp-authority serve 2>&1 >/dev/null | tail -n 1 || true");
    let begins = "mcp-authority: MCPA_SECRET_KEYS lacks the key ";
    assert!(said.starts_with(begins) && said.ends_with("put it back at the end of the list"), "{said}");
    assert!(read("docs/operations.md").contains(begins));
}

#[test]
fn the_operators_of_the_page_can_be_made_with_its_commands() {
    let instance = Instance::start();
    let mut shell = instance.shell();
    for (_, block) in steps("docs/operators.md") {
        shell.run(&block);
    }
    assert_eq!(status(&mut shell, "$(cat ops.key)"), "200");
    assert_eq!(status(&mut shell, "$(cat ci.key)"), "200");
    let servers = "curl -s -H \"Authorization: Bearer $(cat ci.key)\" \"$URL/v1/servers\"";
    assert_eq!(shell.json(servers)["code"], "missing_scope");
}

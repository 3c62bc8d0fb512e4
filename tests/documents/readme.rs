//! README.md: the tour's commands are run, and their output is the output shown; names and numbers that differ each time
//! are masked.

use super::instance::Instance;
use super::page::section;

const PAGE: &str = "README.md";

#[test]
fn the_tour_says_what_it_shows() {
    let mut instance = Instance::start();
    let mut shell = instance.shell();
    let mut compared = 0;
    let mut said = String::new();
    for block in section(PAGE, "Five minutes").blocks {
        match block.language.as_str() {
            "sh" => said = shell.run(&block.text),
            "text" => {
                assert_eq!(masked(&said), masked(block.text.trim_end()), "the command wrote\n{said}");
                compared += 1;
            }
            other => panic!("a block that is neither run nor compared: {other}"),
        }
    }
    assert!(compared >= 6, "only {compared} outputs are shown");
    instance.stop();
}

/// The text without what differs from run to run.
fn masked(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn line(line: &str) -> String {
    let timed = ["\"after_ms\"", "\"expires_in\""].iter().any(|member| line.contains(member));
    let mut masked = String::new();
    let mut word = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || "_-.:…/+".contains(letter) {
            word.push(letter);
            continue;
        }
        masked.push_str(mask(&word, timed).unwrap_or(&word));
        masked.push(letter);
        word.clear();
    }
    masked.trim_end().to_owned()
}

fn mask(word: &str, timed: bool) -> Option<&'static str> {
    const PREFIXES: [(&str, &str); 8] = [
        ("mcp_", "<secret>"),
        ("eyJ", "<token>"),
        ("http://localhost:", "<address>"),
        ("srv_", "<server>"),
        ("agt_", "<agent>"),
        ("key_", "<key>"),
        ("ses_", "<session>"),
        ("rev_", "<revocation>"),
    ];
    // Names of members begin like ids.
    if ["key_id"].contains(&word) {
        return None;
    }
    let number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if number && (timed || word.len() == 10) {
        return Some("<number>");
    }
    if hexadecimal {
        return Some("<node>");
    }
    if word.starts_with("20") && word.ends_with('Z') {
        return Some("<time>");
    }
    let position = word.split_once('.').is_some_and(|(history, number)| {
        [history, number].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if position {
        return Some("<position>");
    }
    PREFIXES.iter().find(|(prefix, _)| word.starts_with(prefix)).map(|(_, mask)| *mask)
}

#[test]
fn a_mask_hides_what_differs_and_nothing_else() {
    assert_eq!(masked("\"key_id\": \"key_4zAYus448MOw\","), "\"key_id\": \"<key>\",");
    assert_eq!(masked("\"position\": \"1.11\""), "\"position\": \"<position>\"");
    assert_ne!(masked("\"active\": true"), masked("\"active\": false"));
    assert_ne!(masked("\"scope\": \"tools/list\""), masked("\"scope\": \"tools/call\""));
    assert_eq!(masked("\"expires_in\": 899"), masked("\"expires_in\": 900"));
    assert_ne!(masked("\"number\": 899"), masked("\"number\": 900"));
}

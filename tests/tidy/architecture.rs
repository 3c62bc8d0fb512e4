//! Which module may know which: the floors of src/lib.rs, and what the gate may not touch.

use crate::source::{Source, has_extension, leading_word, line, words};

/// The modules that the gate may use, itself included.
const GATE_MAY_USE: [&str; 2] = ["types", "gate"];

/// The gate answers from memory: nothing that waits, locks, dispatches at run time or looks outside.
const GATE_NEVER_SAYS: [&str; 13] = [
    "async",
    "await",
    "dyn",
    "Mutex",
    "RwLock",
    "Condvar",
    "sqlx",
    "tokio",
    "reqwest",
    "TcpStream",
    "UdpSocket",
    "std::fs",
    "std::env",
];

/// Where leases are taken, kept and waited for.
const LEASES: [&str; 3] = ["gate", "feed", "nodes"];

/// Clocks that stop while a machine sleeps, or jump when somebody sets them (guarantee 5).
const NO_CLOCK_FOR_LEASES: [&str; 2] = ["Instant", "SystemTime"];

/// Where HTTP clients are made.
const CLIENTS: [&str; 2] = ["outbound", "cli"];

/// The modules that `lib` declares, from the lowest floor to the highest.
pub(crate) fn order(lib: &str) -> Vec<String> {
    let code = Source::of(lib).code;
    let declared = |at: usize| leading_word(code[at + "mod".len()..].trim_start()).to_owned();
    words(&code, "mod").map(declared).collect()
}

/// The modules of the README's picture, from the lowest floor to the highest. What stands after three spaces explains the line.
pub(crate) fn picture(readme: &str) -> Vec<String> {
    let floors = readme.split_once("## The floors").and_then(|(_, rest)| rest.split_once("```text\n"));
    let drawn = floors.and_then(|(_, rest)| rest.split_once("```")).map_or("", |(drawn, _)| drawn);
    let names = |line: &str| line.trim_start().split("   ").next().unwrap_or_default().to_owned();
    let mut modules: Vec<String> =
        drawn.lines().flat_map(|line| names(line).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    modules.retain(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    modules.reverse();
    modules
}

/// The module of floor order to which a file belongs; none for files outside the library.
fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/").filter(|_| has_extension(path, &["rs"]))?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(inside, "lib.rs" | "main.rs")).then_some(name)
}

/// A module uses itself and what is declared above it, and names it as `crate::name`.
pub(crate) fn floors(order: &[String], path: &str, text: &str) -> Vec<String> {
    let Some(module) = module(path) else { return Vec::new() };
    let Some(floor) = order.iter().position(|name| name == module) else {
        return vec![format!("{path}: src/lib.rs does not declare `{module}`")];
    };
    let code = Source::of(text).code;
    let mut found = Vec::new();
    for at in words(&code, "crate::") {
        let used = leading_word(&code[at + "crate::".len()..]);
        if used.is_empty() {
            found.push(format!(
                "{path}:{}: one `use crate::module::…` per module, neither braces nor a star",
                line(&code, at)
            ));
        } else if !order.iter().take(floor + 1).any(|below| below == used) {
            found.push(format!("{path}:{}: `{module}` may not use `{used}`", line(&code, at)));
        }
    }
    found.extend(climbs_out(path, &code));
    found
}

/// `super::` must not lead up to the crate's top: there, another module would be used unseen.
fn climbs_out(path: &str, code: &str) -> Vec<String> {
    let below_src = path.matches('/').count();
    let depth = if path.ends_with("/mod.rs") { below_src - 1 } else { below_src };
    let mut found = Vec::new();
    for at in words(code, "super") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let chain = code[at..].split("::").take_while(|part| *part == "super").count();
        if chain >= depth + inline_modules(&code[..at]) {
            found.push(format!("{path}:{}: `super` leads out of the module: write `crate::…`", line(code, at)));
        }
    }
    found
}

/// How many `mod name { … }` are open at the end of `code`.
fn inline_modules(code: &str) -> usize {
    let mut open: Vec<bool> = Vec::new();
    for (at, character) in code.char_indices() {
        if character == '{' {
            let mut before = code[..at].split_whitespace().rev();
            open.push(before.nth(1) == Some("mod"));
        } else if character == '}' {
            open.pop();
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

/// The gate knows only `types` and says none of the words above.
pub(crate) fn gate_is_pure(path: &str, text: &str) -> Vec<String> {
    if module(path) != Some("gate") {
        return Vec::new();
    }
    let code = Source::of(text).code;
    let mut found = Vec::new();
    for at in words(&code, "crate::") {
        let used = leading_word(&code[at + "crate::".len()..]);
        if !GATE_MAY_USE.contains(&used) {
            found.push(format!("{path}:{}: the gate may not use `{used}`", line(&code, at)));
        }
    }
    for word in GATE_NEVER_SAYS {
        found.extend(words(&code, word).map(|at| format!("{path}:{}: no `{word}` in the gate", line(&code, at))));
    }
    found
}

/// Leases run on the boot-time clock of `types` alone.
pub(crate) fn leases_use_boot_time(path: &str, text: &str) -> Vec<String> {
    if !module(path).is_some_and(|module| LEASES.contains(&module)) {
        return Vec::new();
    }
    let code = Source::of(text).code;
    let all = NO_CLOCK_FOR_LEASES.into_iter().flat_map(|clock| words(&code, clock).map(move |at| (at, clock)));
    all.map(|(at, clock)| format!("{path}:{}: no `{clock}` where leases are: use the boot-time clock", line(&code, at)))
        .collect()
}

/// One client asks addresses that others name; the command line's own clients ask this service alone.
pub(crate) fn one_client(path: &str, text: &str) -> Vec<String> {
    if module(path).is_none_or(|module| CLIENTS.contains(&module)) {
        return Vec::new();
    }
    let code = Source::of(text).code;
    words(&code, "reqwest").map(|at| format!("{path}:{}: use `outbound`", line(&code, at))).collect()
}

mod tests {
    use super::{climbs_out, floors, gate_is_pure, leases_use_boot_time, one_client, order};

    fn three() -> Vec<String> {
        order("//! The map.\n/// Words.\npub mod types;\npub mod gate;\n// mod not;\nmod keys;\n")
    }

    #[test]
    fn order_is_that_of_the_declarations() {
        assert_eq!(three(), ["types", "gate", "keys"]);
    }

    #[test]
    fn a_lower_floor_may_not_use_a_higher_one() {
        let bad = floors(&three(), "src/gate/decide.rs", "//! x\nuse crate::keys::rotate;\n");
        assert_eq!(bad, ["src/gate/decide.rs:2: `gate` may not use `keys`"]);
        assert_eq!(floors(&three(), "src/types.rs", "fn f() { crate::gate::decide() }").len(), 1);
        assert!(
            floors(&three(), "src/keys/store.rs", "use crate::types::KeyId; // crate::http\nuse crate::keys::Error;")
                .is_empty()
        );
    }

    #[test]
    fn braces_stars_and_undeclared_modules_are_refused() {
        assert_eq!(floors(&three(), "src/keys/mod.rs", "use crate::{types, gate};").len(), 1);
        assert_eq!(floors(&three(), "src/keys/mod.rs", "use crate::*;").len(), 1);
        assert_eq!(floors(&three(), "src/stray.rs", "").len(), 1);
        assert!(floors(&three(), "src/main.rs", "use mcp_authority::http;").is_empty());
    }

    #[test]
    fn super_may_not_reach_the_top() {
        assert_eq!(climbs_out("src/keys/rotate.rs", "use super::super::http;").len(), 1);
        assert_eq!(climbs_out("src/keys/mod.rs", "use super::http;").len(), 1);
        assert_eq!(climbs_out("src/app.rs", "mod tests { use super::super::http; }").len(), 1);
        assert!(climbs_out("src/app.rs", "mod tests { use super::App; }\nfn f() {}").is_empty());
        assert!(climbs_out("src/keys/rotate.rs", "use super::store; pub(super) fn f() {}").is_empty());
    }

    #[test]
    fn the_gate_may_not_wait_lock_or_reach_out() {
        for bad in [
            "async fn f() {}",
            "x: Box<dyn Fn()>",
            "use std::sync::{Arc, Mutex};",
            "use crate::db::pool;",
            "std::fs::read(p)",
        ] {
            assert_eq!(gate_is_pure("src/gate/jwt.rs", bad).len(), 1, "{bad}");
        }
        assert!(gate_is_pure("src/gate/jwt.rs", "//! Never async.\nuse crate::types::Claims;").is_empty());
        assert!(gate_is_pure("src/feed/follow.rs", "async fn f() {}").is_empty());
    }

    #[test]
    fn another_clock_near_a_lease_is_found() {
        assert_eq!(leases_use_boot_time("src/feed/follow.rs", "let t = std::time::Instant::now();").len(), 1);
        assert_eq!(leases_use_boot_time("src/nodes/mod.rs", "SystemTime::now()").len(), 1);
        assert!(leases_use_boot_time("src/gate/lease.rs", "BootInstant::now() // not Instant").is_empty());
        assert!(leases_use_boot_time("src/db/embedded/mod.rs", "Instant::now()").is_empty());
    }

    #[test]
    fn another_client_is_found() {
        assert_eq!(one_client("src/clients/document.rs", "fn f() { reqwest::Client::builder() }").len(), 1);
        assert_eq!(one_client("src/jobs/mod.rs", "use reqwest::Client;").len(), 1);
        assert!(one_client("src/outbound/mod.rs", "use reqwest::Client;").is_empty());
        assert!(one_client("src/cli/demo.rs", "use reqwest::Client;").is_empty());
        assert!(one_client("src/keys/mod.rs", "// not reqwest").is_empty());
    }
}

//! The container deployment as it is shipped: docker-compose.yml, deploy/Dockerfile and the build context.
#![cfg(test)]

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

/// The user of the image; any number but root's.
const USER: &str = "10001:10001";

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|entry| entry.as_str().unwrap()).collect()
}

/// The instructions of the Dockerfile, continued lines joined, as (keyword, rest).
fn dockerfile() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// The paths that the Dockerfile copies from the build context.
fn copied() -> Vec<String> {
    let from_context = |(word, rest): &(String, String)| word == "COPY" && !rest.contains("--from=");
    let all = dockerfile().into_iter().filter(from_context).flat_map(|(_, rest)| {
        let mut paths: Vec<String> =
            rest.split_whitespace().map(|path| path.trim_end_matches('/').to_owned()).collect();
        paths.pop();
        paths
    });
    all.collect()
}

/// Whether .dockerignore keeps a path out. Its lines here are `*`, plain paths and their `!` exceptions.
fn ignored(path: &str) -> bool {
    let mut out = false;
    for line in read(".dockerignore").lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (pattern, excludes) = line.strip_prefix('!').map_or((line, true), |pattern| (pattern, false));
        assert!(pattern == "*" || !pattern.contains(['*', '?', '[']), "this test does not understand `{line}`");
        if pattern == "*" || Path::new(path).starts_with(pattern) {
            out = excludes;
        }
    }
    out
}

/// Whether src/config.default.toml knows a setting, by its environment variable's name; a secret's may end in `_FILE`.
fn is_setting(variable: &str) -> bool {
    let name = variable.strip_prefix("MCPA_").unwrap().to_lowercase();
    let plain = name.trim_end_matches("_file");
    let left = |line: &str| Some(line.trim_start_matches(['#', ' ']).split_once('=')?.0.trim().to_owned());
    read("src/config.default.toml").lines().filter_map(left).any(|known| known == name || known == plain)
}

/// Every word beginning with `MCPA_` in a text.
fn variables(text: &str) -> Vec<String> {
    let word_end = |rest: &str| {
        rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(rest.len())
    };
    text.match_indices("MCPA_").map(|(at, _)| text[at..at + word_end(&text[at..])].to_owned()).collect()
}

#[test]
fn no_container_has_more_rights_than_it_needs() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 2);
    for (name, service) in services {
        let user = service["user"].as_str().unwrap_or_else(|| panic!("{name} has no user"));
        assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{name}: {user}");
        assert_eq!(service["read_only"], json!(true), "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        for never in ["privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"] {
            assert!(service.get(never).is_none(), "{name}: {never}");
        }
        assert!(!service.to_string().contains("docker.sock"), "{name}");
    }
    assert_eq!(services["authority"]["user"], USER);
}

#[test]
fn every_container_has_limits() {
    for (name, service) in compose()["services"].as_object().unwrap() {
        for limit in ["mem_limit", "cpus", "pids_limit", "stop_grace_period"] {
            assert!(service.get(limit).is_some_and(|value| !value.is_null()), "{name} has no {limit}");
        }
        assert!(service["logging"]["options"]["max-size"].is_string(), "{name}: logs without a bound");
        for mount in strings(&service["tmpfs"]) {
            assert!(mount.contains(":size=") && mount.contains("mode=0700"), "{name}: {mount}");
        }
    }
}

#[test]
fn secrets_reach_containers_as_files() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        for (variable, value) in service["environment"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            let secret = ["SECRET", "PASSWORD", "DATABASE_URL"].iter().any(|word| variable.contains(word));
            assert_eq!(secret, value.starts_with("/run/secrets/"), "{name}: {variable}");
            assert!(!secret || variable.ends_with("_FILE"), "{name}: {variable}");
            let file = value.trim_start_matches("/run/secrets/");
            assert!(!secret || strings(&service["secrets"]).contains(&file), "{name} is not given {file}");
        }
    }
    let authority = &compose["services"]["authority"]["environment"];
    assert_eq!(authority["MCPA_SECRET_KEYS_FILE"], "/run/secrets/secret_keys");
    assert_eq!(authority["MCPA_DATABASE_URL_FILE"], "/run/secrets/database_url");
}

#[test]
fn every_secret_is_made_and_used() {
    let compose = compose();
    let make = read("deploy/make-secrets");
    let services = compose["services"].as_object().unwrap();
    let used: Vec<&str> = services.values().flat_map(|service| strings(&service["secrets"])).collect();
    let declared = compose["secrets"].as_object().unwrap();
    assert!(used.iter().all(|secret| declared.contains_key(*secret)));
    for (name, secret) in declared {
        assert_eq!(secret["file"], format!("./deploy/secrets/{name}"));
        assert!(make.contains(&format!("write {name}\n")), "deploy/make-secrets does not make {name}");
        assert!(used.contains(&name.as_str()), "nobody uses {name}");
    }
}

#[cfg(unix)]
#[test]
fn made_secrets_are_kept_from_others_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("make-secrets");
    fs::copy(top().join("deploy/make-secrets"), &script).unwrap();
    let run = || {
        assert!(std::process::Command::new("bash").arg(&script).output().unwrap().status.success());
        let files = ["secret_keys", "database_password", "database_superuser_password", "database_url"];
        files.map(|name| fs::read_to_string(folder.path().join("secrets").join(name)).unwrap())
    };
    let first = run();
    assert_eq!(first, run());
    assert_eq!(first[3], format!("postgres://mcpa:{}@database:5432/mcpa", first[1]));
    assert!(first[1].chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') && first[1].len() == 43);
    assert_ne!(first[0], first[2]);
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("secrets"), mode("secrets/secret_keys")), (0o700, 0o444));
    assert_eq!(fs::read_to_string(folder.path().join("secrets/.gitignore")).unwrap(), "*\n");
}

#[test]
fn ports_are_published_on_loopback_only() {
    let compose = compose();
    assert_eq!(strings(&compose["services"]["authority"]["ports"]), ["127.0.0.1:8080:8080"]);
    assert!(compose["services"]["database"].get("ports").is_none());
    assert_eq!(strings(&compose["services"]["database"]["networks"]), ["inside"]);
    assert_eq!(compose["networks"]["inside"]["internal"], json!(true));
}

#[test]
fn the_service_listens_inside_and_trusts_only_the_gateway() {
    let compose = compose();
    let environment = &compose["services"]["authority"]["environment"];
    assert_eq!(environment["MCPA_LISTEN"], "0.0.0.0:8080");
    assert_eq!(environment["MCPA_BEHIND_TLS_PROXY"], "true");
    assert_eq!(environment["MCPA_TRUSTED_PROXIES"], compose["networks"]["door"]["ipam"]["config"][0]["gateway"]);
}

#[test]
fn health_is_asked_of_the_binary_itself() {
    let compose = compose();
    let command = ["/usr/local/bin/mcp-authority", "healthcheck"];
    assert_eq!(strings(&compose["services"]["authority"]["healthcheck"]["test"])[1..], command);
    assert_eq!(compose["services"]["authority"]["depends_on"]["database"]["condition"], "service_healthy");
    let (_, check) = dockerfile().into_iter().find(|(word, _)| word == "HEALTHCHECK").unwrap();
    assert!(check.ends_with(&format!("CMD [\"{}\", \"{}\"]", command[0], command[1])), "{check}");
}

#[test]
fn every_setting_named_is_one_of_the_service() {
    let dockerfile: String = dockerfile().into_iter().map(|(_, rest)| rest + "\n").collect();
    let named = variables(&(read("docker-compose.yml") + &dockerfile));
    assert!(named.len() >= 6);
    for variable in named {
        assert!(is_setting(&variable), "{variable} is not in src/config.default.toml");
    }
}

#[test]
fn the_image_is_small_pinned_and_not_root() {
    let instructions = dockerfile();
    let all = |word: &str| -> Vec<&str> {
        instructions.iter().filter(|(own, _)| own == word).map(|(_, rest)| rest.as_str()).collect()
    };
    assert_eq!(all("FROM"), ["${BUILD_IMAGE} AS build", "${RUNTIME_IMAGE}"]);
    let mut images: Vec<String> =
        all("ARG").iter().map(|argument| argument.split_once('=').unwrap().1.to_owned()).collect();
    images.push(compose()["services"]["database"]["image"].as_str().unwrap().to_owned());
    assert_eq!(images.len(), 3);
    for image in images {
        let tag = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{image}: the tag names no version");
    }
    assert_eq!(all("USER"), [USER]);
    assert!(all("RUN").iter().any(|run| run.contains("cargo build --release --locked --bin mcp-authority")));
    assert!(all("ENV").contains(&"SQLX_OFFLINE=true"));
    assert_eq!(all("ENTRYPOINT"), ["[\"/usr/local/bin/mcp-authority\"]"]);
    let last_stage = instructions.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let runs_there = instructions[last_stage..].iter().any(|(word, _)| word == "RUN" || word == "ADD");
    assert!(!runs_there, "the last stage only copies");
}

#[test]
fn the_toolchain_is_new_enough_for_the_code() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let wanted = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(
        read("deploy/Dockerfile").contains(&format!("rust:{wanted}.")),
        "the Dockerfile builds with another Rust than {wanted}"
    );
}

#[test]
fn the_build_context_is_complete() {
    let sources = copied();
    for source in &sources {
        assert!(top().join(source).exists(), "{source} does not exist");
        assert!(!ignored(source), ".dockerignore keeps {source} out");
    }
    let covered = |path: &Path| sources.iter().any(|source| path.starts_with(source));
    for path in built_from() {
        assert!(covered(&path), "the build needs {}, and the Dockerfile does not copy it", path.display());
    }
    for kept_out in [".git", "target", "data", "deploy/secrets", "tests"] {
        assert!(ignored(kept_out), "{kept_out} would enter the image's build");
    }
}

/// What a build of the binary reads besides src/: files named in Cargo.toml, and those that the source includes.
fn built_from() -> Vec<PathBuf> {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut needed = vec![PathBuf::from("Cargo.toml"), PathBuf::from("Cargo.lock"), PathBuf::from(".sqlx")];
    for (section, folder) in [("bench", "benches"), ("test", "tests"), ("example", "examples")] {
        for entry in manifest.get(section).and_then(toml::Value::as_array).into_iter().flatten() {
            let default = || format!("{folder}/{}.rs", entry["name"].as_str().unwrap());
            needed.push(entry.get("path").map_or_else(default, |path| path.as_str().unwrap().to_owned()).into());
        }
    }
    if top().join("build.rs").exists() {
        needed.push("build.rs".into());
    }
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if top().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !only_tested(&path) {
                needed.extend(included(&path));
            }
        }
    }
    needed
}

/// Whether a source file is compiled for tests alone: the image's build never reads what it includes.
fn only_tested(source: &Path) -> bool {
    let declared_in = top().join(source.parent().unwrap()).join("mod.rs");
    let module = source.file_stem().unwrap().to_str().unwrap();
    let declares = |text: String| text.contains(&format!("#[cfg(test)]\nmod {module};"));
    fs::read_to_string(declared_in).is_ok_and(declares)
}

/// The files that one source file takes in at compile time, as paths from the top.
fn included(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(top().join(source)).unwrap();
    let mut found = Vec::new();
    for (name, folder) in [
        ("include_str!(\"", source.parent().unwrap()),
        ("include_bytes!(\"", source.parent().unwrap()),
        ("migrate!(\"", Path::new("")),
    ] {
        for (at, _) in text.match_indices(name) {
            let target = text[at + name.len()..].split('"').next().unwrap();
            found.push(normal(&folder.join(target)));
        }
    }
    found
}

/// The same path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            assert!(straight.pop(), "{} leads out of the repository", path.display());
        } else {
            straight.push(part);
        }
    }
    straight
}

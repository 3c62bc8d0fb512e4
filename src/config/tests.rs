//! Tests of the settings: precedence, refusals, and messages without secrets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::sources::SETTINGS;
use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "//////////////////////////////////////////8";
const DATABASE: &str = "postgres://u:canary@db.example/authority";

fn load_with(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    let read = |path: &Path| {
        let found = path.to_str().and_then(|path| files.get(path)).map(|text| (*text).to_owned());
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    Config::from_sources(environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())), &read)
}

fn load(environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
    load_with(environment, &[])
}

/// Which settings are complained about, in order; and that no message holds a secret.
fn wrong(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Vec<String> {
    let mistakes = load_with(environment, files).unwrap_err();
    let text = mistakes.to_string();
    assert!(!text.contains("canary") && !text.contains(KEY), "{text}");
    assert_eq!(text.lines().count(), mistakes.iter().count() + 1, "{text}");
    mistakes.iter().map(|mistake| mistake.setting.clone()).collect()
}

#[test]
fn without_any_setting_the_defaults_hold() {
    let config = load(&[("PATH", "/bin"), ("MCPASS", "x")]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.metrics_listen.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(config.public_url.issuer(), "http://localhost:8080/oauth");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!((config.migrate, config.behind_tls_proxy), (true, false));
    assert_eq!((config.shutdown, config.drain), (Duration::from_secs(30), Duration::ZERO));
    assert_eq!(config.log, "info");
    assert!(config.database_url.is_none() && config.secret_keys.is_none() && config.tls.is_none());
    assert!(config.trusted_proxies.is_empty());
    assert_eq!(config.outbound, OutboundSettings::default());
}

#[test]
fn attack_18_loopback_addresses_are_asked_only_by_a_service_for_this_machine() {
    let on = ("MCPA_OUTBOUND_LOOPBACK", "true");
    for url in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        assert!(load(&[on, ("MCPA_PUBLIC_URL", url)]).unwrap().outbound.loopback, "{url}");
    }
    assert!(load(&[on]).unwrap().outbound.loopback);
    for url in ["https://authority.example.com", "https://10.0.0.1", "https://localhost.example.com"] {
        let public = [("MCPA_PUBLIC_URL", url), ("MCPA_BEHIND_TLS_PROXY", "true")];
        assert_eq!(wrong(&[on, public[0], public[1]], &[]), ["MCPA_OUTBOUND_LOOPBACK"], "{url}");
        load(&public).unwrap();
    }
    // Its own address is derived then, and looks like one of this machine.
    let reached = [("MCPA_LISTEN", "0.0.0.0:8080"), ("MCPA_BEHIND_TLS_PROXY", "true")];
    assert_eq!(wrong(&[on, reached[0], reached[1]], &[]), ["MCPA_OUTBOUND_LOOPBACK"]);
    assert_eq!(wrong(&[("MCPA_OUTBOUND_CA", "/none")], &[]), ["MCPA_OUTBOUND_CA"]);
    let config = load_with(&[("MCPA_OUTBOUND_CA", "/ca")], &[("/ca", "")]).unwrap();
    assert_eq!(config.outbound.ca, Some("/ca".into()));
}

#[test]
fn the_manual_names_every_setting() {
    let manual = include_str!("../config.default.toml");
    for setting in &SETTINGS {
        let stands = |start: String| manual.lines().any(|line| line.starts_with(&start));
        let name = setting.name;
        let found =
            stands(format!("{name} = ")) || stands(format!("# {name} = ")) || stands(format!("# {name}_file = "));
        assert!(found, "{name}");
    }
}

#[test]
fn the_environment_beats_the_file_and_the_file_the_default() {
    let file =
        "listen = '127.0.0.1:1000'\nshutdown_seconds = 5\nmigrate = false\ntrusted_proxies = ['10.0.0.1', '::1']";
    let environment = [("MCPA_CONFIG", "/c.toml"), ("MCPA_LISTEN", "[::1]:2000")];
    let config = load_with(&environment, &[("/c.toml", file)]).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:2000");
    assert_eq!(config.public_url.to_string(), "http://localhost:2000");
    assert_eq!(config.shutdown, Duration::from_secs(5));
    assert!(!config.migrate);
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.log, "info");
}

#[test]
fn a_secret_can_come_from_a_file_of_its_own() {
    let files = [("/url", "postgres://u:canary@db/a\n"), ("/keys", KEY), ("/c.toml", "secret_keys_file = '/keys'")];
    let environment = [("MCPA_CONFIG", "/c.toml"), ("MCPA_DATABASE_URL_FILE", "/url")];
    let config = load_with(&environment, &files).unwrap();
    assert_eq!(config.database_url.as_ref().unwrap().reveal(), "postgres://u:canary@db/a");
    assert_eq!(config.secret_keys.as_ref().unwrap()[0].reveal()[..3], [0, 1, 2]);
    let printed = format!("{config:?}");
    assert!(!printed.contains("canary") && !printed.contains("1, 2, 3"), "{printed}");

    // Given in the environment, either way, it beats what the file gives, either way.
    let environment = [("MCPA_CONFIG", "/c.toml"), ("MCPA_SECRET_KEYS", OTHER_KEY)];
    let config = load_with(&environment, &files).unwrap();
    assert_eq!(config.secret_keys.unwrap()[0].reveal(), &[255; 32]);
}

#[test]
fn given_both_ways_is_a_mistake() {
    let environment = [("MCPA_SECRET_KEYS", KEY), ("MCPA_SECRET_KEYS_FILE", "/keys")];
    assert_eq!(wrong(&environment, &[("/keys", KEY)]), ["MCPA_SECRET_KEYS_FILE"]);
    let file = format!("database_url = '{DATABASE}'\ndatabase_url_file = '/url'\nsecret_keys = ['{KEY}']");
    assert_eq!(wrong(&[("MCPA_CONFIG", "/c")], &[("/c", &file)]), ["database_url_file in /c"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let environment = [
        ("MCPA_CONFIG", "/c.toml"),
        ("MCPA_LISTEN", "localhost"),
        ("MCPA_PUBLIC_URL", "https://u:canary@a.example"),
        ("MCPA_DATABASE_URL", "canary"),
        ("MCPA_SECRET_KEYS", "canary"),
        ("MCPA_MIGRATE", "yes"),
        ("MCPA_TLS_CERT", "/none"),
        ("MCPA_SHUTDOWN_SECONDS", "601"),
        ("MCPA_DRAIN_SECONDS", "-1"),
        ("MCPA_OUTBOUND_LOOPBACK", "1"),
        ("MCPA_LOG", "inof"),
        ("MCPA_DATA_DIR", ""),
        ("MCPA_LISTTEN", "canary"),
        ("MCPA_LEASE_MS", "200"),
        ("MCPA_LISTEN_FILE", "/x"),
        ("MCPA_listen", "x"),
    ];
    let file =
        "metrics_listen = 'x'\nbehind_tls_proxy = 1.5\ntrusted_proxies = '10.0.0.1/8,x'\nconfig = 'x'\nLog = 'x'";
    let mut found = wrong(&environment, &[("/c.toml", file)]);
    found.sort();
    let mut expected = vec![
        "behind_tls_proxy in /c.toml",
        "config in /c.toml",
        "Log in /c.toml",
        "metrics_listen in /c.toml",
        "trusted_proxies in /c.toml",
        "MCPA_LISTEN",
        "MCPA_LISTEN_FILE",
        "MCPA_LISTTEN",
        "MCPA_LEASE_MS",
        "MCPA_listen",
        "MCPA_PUBLIC_URL",
        "MCPA_DATABASE_URL",
        "MCPA_SECRET_KEYS",
        "MCPA_MIGRATE",
        "MCPA_TLS_CERT",
        "MCPA_TLS_KEY",
        "MCPA_SHUTDOWN_SECONDS",
        "MCPA_DRAIN_SECONDS",
        "MCPA_OUTBOUND_LOOPBACK",
        "MCPA_LOG",
        "MCPA_DATA_DIR",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_message_names_the_setting_the_mistake_and_the_mend() {
    let text = load(&[("MCPA_LISTTEN", "x"), ("MCPA_MIGRATE", "y\nes")]).unwrap_err().to_string();
    let expected = "2 mistakes in the settings:\n  \
        MCPA_LISTTEN: is not a setting. Did you mean MCPA_LISTEN?\n  \
        MCPA_MIGRATE: \"y\\nes\" is neither true nor false. Write true or false.";
    assert_eq!(text, expected);
}

#[test]
fn names_of_the_command_line_and_of_kubernetes_are_left_alone() {
    let names = "URL OPERATOR_KEY OPERATOR_KEY_FILE OUTPUT CONTEXT SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTP PORT \
        PORT_8080_TCP PORT_8080_TCP_ADDR DB_SERVICE_HOST DB_SERVICE_PORT DB_PORT DB_PORT_5432_UDP_PROTO";
    for name in names.split_whitespace() {
        load(&[(&format!("MCPA_{name}"), "tcp://10.0.0.1:80")]).unwrap();
    }
    for name in
        ["MCPA_SERVICE_PORTS", "MCPA_PORT_", "MCPA_PORT_X_TCP", "MCPA_PORT_80", "MCPA_URL_FILE", "MCPA_", "MCPA_DOORS"]
    {
        assert_eq!(wrong(&[(name, "x")], &[]), [name]);
    }
}

#[test]
fn plain_http_stays_on_the_machine() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "[::ffff:192.0.2.1]:8080"] {
        assert_eq!(wrong(&[("MCPA_LISTEN", address)], &[]), ["MCPA_LISTEN"]);
        assert_eq!(
            wrong(&[("MCPA_METRICS_LISTEN", address), ("MCPA_LISTEN", "127.0.0.1:1")], &[]),
            ["MCPA_METRICS_LISTEN"]
        );
        load(&[("MCPA_LISTEN", address), ("MCPA_BEHIND_TLS_PROXY", "true")]).unwrap();
        let tls = [("MCPA_LISTEN", address), ("MCPA_TLS_CERT", "/c"), ("MCPA_TLS_KEY", "/k")];
        let config = load_with(&tls, &[("/c", ""), ("/k", "")]).unwrap();
        assert_eq!(config.tls, Some(TlsFiles { cert: "/c".into(), key: "/k".into() }));
        assert_eq!(config.public_url.to_string(), "https://localhost:8080");
    }
    for address in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        load(&[("MCPA_LISTEN", address)]).unwrap();
    }
}

#[test]
fn the_public_address_fits_what_is_spoken() {
    let url = "https://authority.example.com";
    assert_eq!(wrong(&[("MCPA_PUBLIC_URL", url)], &[]), ["MCPA_PUBLIC_URL"]);
    let config = load(&[("MCPA_PUBLIC_URL", url), ("MCPA_BEHIND_TLS_PROXY", "true")]).unwrap();
    assert_eq!(config.public_url.issuer(), "https://authority.example.com/oauth");
    let tls = [("MCPA_PUBLIC_URL", "http://localhost:1"), ("MCPA_TLS_CERT", "/c"), ("MCPA_TLS_KEY", "/k")];
    assert_eq!(wrong(&tls, &[("/c", ""), ("/k", "")]), ["MCPA_PUBLIC_URL"]);
    assert_eq!(wrong(&[("MCPA_LISTEN", "127.0.0.1:0")], &[]), ["MCPA_PUBLIC_URL"]);
    load(&[("MCPA_LISTEN", "127.0.0.1:0"), ("MCPA_PUBLIC_URL", "http://localhost:1")]).unwrap();
}

#[test]
fn a_certificate_needs_both_files_and_both_readable() {
    assert_eq!(wrong(&[("MCPA_TLS_KEY", "/k")], &[("/k", "")]), ["MCPA_TLS_CERT"]);
    let both = [("MCPA_TLS_CERT", "/c"), ("MCPA_TLS_KEY", "/k"), ("MCPA_LISTEN", "0.0.0.0:8080")];
    assert_eq!(wrong(&both, &[("/k", "")]), ["MCPA_TLS_CERT"]);
}

#[test]
fn a_database_needs_secret_keys_that_are_given() {
    assert_eq!(wrong(&[("MCPA_DATABASE_URL", DATABASE)], &[]), ["MCPA_SECRET_KEYS"]);
    // A file that cannot be read is one mistake, not two.
    let environment = [("MCPA_DATABASE_URL", DATABASE), ("MCPA_SECRET_KEYS_FILE", "canary")];
    assert_eq!(wrong(&environment, &[]), ["MCPA_SECRET_KEYS_FILE"]);
    let both = format!("{KEY}, {OTHER_KEY}");
    let config = load(&[("MCPA_DATABASE_URL", DATABASE), ("MCPA_SECRET_KEYS", &both)]).unwrap();
    assert_eq!(config.secret_keys.unwrap().len(), 2);
}

#[test]
fn secret_keys_are_whole_and_different() {
    let many = (0..17_u8).map(|n| STANDARD.encode([n; 32])).collect::<Vec<_>>().join(",");
    let twice = format!("{KEY},{}", KEY.trim_end_matches('='));
    for keys in ["", ",", "AAAA", "canary!", &format!("{KEY},"), &format!("{KEY}AA"), &twice, &many] {
        assert_eq!(wrong(&[("MCPA_SECRET_KEYS", keys)], &[]), ["MCPA_SECRET_KEYS"]);
    }
}

#[test]
fn trusted_proxies_are_networks_in_one_form() {
    let list = "10.0.0.7, 192.168.1.9/16,::ffff:172.16.0.0/108 ,::ffff:10.0.0.8,2001:db8::1/32";
    let config = load(&[("MCPA_TRUSTED_PROXIES", list)]).unwrap();
    let found: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.7/32", "192.168.0.0/16", "172.16.0.0/12", "10.0.0.8/32", "2001:db8::/32"]);
    for list in ["x", "10.0.0.1,", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "proxy.example"] {
        assert_eq!(wrong(&[("MCPA_TRUSTED_PROXIES", list)], &[]), ["MCPA_TRUSTED_PROXIES"]);
    }
    assert!(load(&[("MCPA_TRUSTED_PROXIES", "")]).unwrap().trusted_proxies.is_empty());
}

#[test]
fn attack_18_providers_are_in_networks_of_ones_own_that_are_named() {
    let name = "MCPA_PROVIDER_NETWORKS";
    let config = load(&[(name, "10.20.0.7/16, fc00::/7,192.0.2.1")]).unwrap();
    let found: Vec<_> = config.provider_networks.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.20.0.0/16", "fc00::/7", "192.0.2.1/32"]);
    for list in ["x", "10.0.0.1,", "0.0.0.0/0", "8.0.0.0/6", "::/0", "::ffff:0:0/96", "idp.example"] {
        assert_eq!(wrong(&[(name, list)], &[]), [name], "{list}");
    }
    assert!(load(&[(name, "")]).unwrap().provider_networks.is_empty());
    assert!(load(&[]).unwrap().provider_networks.is_empty(), "none unless they are named");
}

#[test]
fn the_log_takes_levels_and_parts_with_levels() {
    for log in ["info", "WARN", "off", "info,mcp_authority::feed=debug", "mcp_authority[request{id=1}]=trace,error"] {
        assert_eq!(load(&[("MCPA_LOG", log)]).unwrap().log, log);
    }
    for log in ["inof", "info,", "info,x", "x=loud", "[", "info;debug"] {
        assert_eq!(wrong(&[("MCPA_LOG", log)], &[]), ["MCPA_LOG"], "{log}");
    }
}

#[test]
fn metrics_can_be_off_and_have_an_address_of_their_own() {
    assert_eq!(load(&[("MCPA_METRICS_LISTEN", "off")]).unwrap().metrics_listen, None);
    assert_eq!(wrong(&[("MCPA_LISTEN", "127.0.0.1:9464")], &[]), ["metrics_listen in the defaults"]);
    assert_eq!(wrong(&[("MCPA_METRICS_LISTEN", "127.0.0.1:8080")], &[]), ["MCPA_METRICS_LISTEN"]);
}

#[test]
fn shutdown_lies_within_its_bounds() {
    for seconds in ["0", "601", "-1", "1.5", "30s", "99999999999999999999"] {
        assert_eq!(wrong(&[("MCPA_SHUTDOWN_SECONDS", seconds)], &[]), ["MCPA_SHUTDOWN_SECONDS"]);
    }
    assert_eq!(load(&[("MCPA_SHUTDOWN_SECONDS", "600")]).unwrap().shutdown, Duration::from_mins(10));
}

#[test]
fn a_file_that_is_not_toml_is_told_by_its_line_without_the_line() {
    let config = [("MCPA_CONFIG", "/c.toml")];
    for broken in
        ["log = 'info'\ndatabase_url = canary\n", "log = 'info'\ndatabase_url canary", "\nsecret_keys = 'canary"]
    {
        assert_eq!(wrong(&config, &[("/c.toml", broken)]), ["/c.toml"]);
        let text = load_with(&config, &[("/c.toml", broken)]).unwrap_err().to_string();
        assert!(text.contains("line 2 is not TOML"), "{text}");
    }
    assert_eq!(wrong(&config, &[]), ["MCPA_CONFIG"]);
    let wrong_kinds = "database_url = ['canary']\nsecret_keys = [1]\n[listen]\nx = 1";
    assert_eq!(wrong(&config, &[("/c.toml", wrong_kinds)]).len(), 3);
}

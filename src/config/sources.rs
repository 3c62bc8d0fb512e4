//! Where the settings come from: the environment over the file over the defaults; unknown names are mistakes.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::mistakes::Mistakes;

/// What reads a file as text; the tests bring their own.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// All defaults, and the manual of the settings.
const DEFAULTS: &str = include_str!("../config.default.toml");

/// What all our environment variables begin with.
pub(super) const PREFIX: &str = "MCPA_";

/// Environment variables of the command line; the service leaves them alone.
const COMMAND_LINE: [&str; 5] = ["URL", "OPERATOR_KEY", "OPERATOR_KEY_FILE", "OUTPUT", "CONTEXT"];

/// One setting as it may be given.
pub(super) struct Setting {
    /// The name in a file; in the environment, the prefix and this in capitals.
    pub(super) name: &'static str,
    /// It holds a secret: it may come from a file of its own, and no message shows its value.
    pub(super) secret: bool,
    /// A file may give it as a list.
    pub(super) list: bool,
}

const fn plain(name: &'static str) -> Setting {
    Setting { name, secret: false, list: false }
}

/// Every setting there is.
pub(super) const SETTINGS: [Setting; 19] = [
    plain("listen"),
    plain("metrics_listen"),
    plain("public_url"),
    Setting { name: "database_url", secret: true, list: false },
    plain("data_dir"),
    Setting { name: "secret_keys", secret: true, list: true },
    plain("migrate"),
    plain("tls_cert"),
    plain("tls_key"),
    plain("behind_tls_proxy"),
    Setting { name: "trusted_proxies", secret: false, list: true },
    Setting { name: "provider_networks", secret: false, list: true },
    plain("outbound_loopback"),
    plain("outbound_ca"),
    Setting { name: "smtp_url", secret: true, list: false },
    plain("mail_from"),
    plain("drain_seconds"),
    plain("shutdown_seconds"),
    plain("log"),
];

/// One setting as it was given.
pub(super) struct Given {
    /// The name under which it was given.
    pub(super) origin: String,
    /// `None`: its file cannot be read, which is among the mistakes already.
    pub(super) text: Option<Zeroizing<String>>,
}

/// What was given, by the name of the setting.
pub(super) type Values = BTreeMap<&'static str, Given>;

/// What one source gives, by the name of the setting: the name it stood under there, and its text.
type Texts = BTreeMap<&'static str, (String, Zeroizing<String>)>;

/// What one source gives: settings themselves, and paths of files that hold one.
#[derive(Default)]
struct Source {
    direct: Texts,
    by_file: Texts,
}

/// Brings all sources together. What cannot be read is noted among the mistakes and left out.
pub(super) fn gather(
    environment: impl Iterator<Item = (String, String)>,
    read_file: ReadFile<'_>,
    mistakes: &mut Mistakes,
) -> Values {
    let (environment, config) = from_environment(environment, mistakes);
    let mut values = Values::new();
    let defaults = from_toml(DEFAULTS, "the defaults", mistakes);
    resolve(&mut values, defaults, read_file, mistakes);
    if let Some(path) = config {
        match read_file(Path::new(&path)) {
            Ok(text) => {
                let file = from_toml(&Zeroizing::new(text), &path, mistakes);
                resolve(&mut values, file, read_file, mistakes);
            }
            Err(error) => {
                mistakes.add("MCPA_CONFIG", format!("{path:?} cannot be read ({error})"), "Name a readable TOML file");
            }
        }
    }
    resolve(&mut values, environment, read_file, mistakes);
    values
}

/// Lays one source over those before it. Given both ways in one source is a mistake: nobody knows which was meant.
fn resolve(values: &mut Values, source: Source, read_file: ReadFile<'_>, mistakes: &mut Mistakes) {
    let Source { direct, mut by_file } = source;
    for (name, (origin, text)) in direct {
        if let Some((file, _)) = by_file.remove(name) {
            mistakes.add(file, format!("is set, and so is {origin}"), "Remove one of the two");
        }
        values.insert(name, Given { origin, text: Some(text) });
    }
    for (name, (origin, path)) in by_file {
        let text = match read_file(Path::new(path.as_str())).map(Zeroizing::new) {
            // Editors end files with a line break; none of these values has one.
            Ok(text) => Some(Zeroizing::new(text.trim().to_owned())),
            Err(error) => {
                // The path is not shown: a secret that was set here by mistake would be.
                let wrong = format!("names a file that cannot be read ({error})");
                mistakes.add(origin.as_str(), wrong, "Name a readable file");
                None
            }
        };
        values.insert(name, Given { origin, text });
    }
}

/// Sorts the environment's variables. The second is the path of the settings' file.
fn from_environment(
    variables: impl Iterator<Item = (String, String)>,
    mistakes: &mut Mistakes,
) -> (Source, Option<String>) {
    let (mut source, mut config) = (Source::default(), None);
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let text = Zeroizing::new(text);
        if name == "CONFIG" {
            config = Some(text.to_string());
            continue;
        }
        // Names are written in capitals; one that is not is unknown, not another spelling.
        let capitals = !name.contains(|sign: char| sign.is_ascii_lowercase());
        let taken = capitals && source.take(&name.to_ascii_lowercase(), &variable, text);
        if !taken && !COMMAND_LINE.contains(&name) && !set_by_kubernetes(&variable) {
            let mend = mend_unknown(name, |known| format!("{PREFIX}{}", known.to_ascii_uppercase()));
            mistakes.add(variable.as_str(), "is not a setting", mend);
        }
    }
    (source, config)
}

fn from_toml(text: &str, file: &str, mistakes: &mut Mistakes) -> Source {
    let mut source = Source::default();
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // The error's own display quotes the line, and a secret may stand there.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            mistakes.add(
                file,
                format!("line {line} is not TOML ({})", error.message().escape_debug()),
                "Correct the line",
            );
            return source;
        }
    };
    for (name, value) in table {
        let origin = format!("{name} in {file}");
        let list = SETTINGS.iter().any(|setting| setting.list && setting.name == name);
        let Some(text) = plain_text(&value, list) else {
            let wrong = format!("has a value of the wrong kind ({})", value.type_str());
            mistakes.add(origin, wrong, "Write a text, a whole number, true or false");
            continue;
        };
        if !source.take(&name, &origin, text) {
            mistakes.add(origin, "is not a setting", mend_unknown(&name, str::to_owned));
        }
    }
    source
}

impl Source {
    /// Keeps what is given under the name of a setting, or of the file that holds one; `false` if it is neither.
    fn take(&mut self, name: &str, origin: &str, text: Zeroizing<String>) -> bool {
        let find = |wanted: &str| SETTINGS.iter().find(|setting| setting.name == wanted);
        let holder = || name.strip_suffix("_file").and_then(find).filter(|setting| setting.secret);
        let given = (origin.to_owned(), text);
        if let Some(setting) = find(name) {
            self.direct.insert(setting.name, given);
        } else if let Some(setting) = holder() {
            self.by_file.insert(setting.name, given);
        } else {
            return false;
        }
        true
    }
}

fn plain_text(value: &toml::Value, list: bool) -> Option<Zeroizing<String>> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(choice) => choice.to_string(),
        toml::Value::Array(items) if list => {
            let items = items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>()?;
            items.join(",")
        }
        _ => return None,
    };
    Some(Zeroizing::new(text))
}

/// Kubernetes sets variables for each Service, and one may be named so that they begin with our prefix.
fn set_by_kubernetes(variable: &str) -> bool {
    let service_port =
        variable.split_once("_SERVICE_PORT").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('_'));
    let numbered_port = variable.match_indices("_PORT_").any(|(at, found)| {
        let rest = variable.get(at + found.len()..).unwrap_or_default();
        rest.split_once('_').is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    });
    variable.ends_with("_SERVICE_HOST") || service_port || variable.ends_with("_PORT") || numbered_port
}

/// How to mend an unknown name: the setting that was probably meant, else where to look.
fn mend_unknown(name: &str, written: impl Fn(&str) -> String) -> String {
    let lower = name.to_ascii_lowercase();
    let all = SETTINGS.iter().flat_map(|setting| {
        let by_file = setting.secret.then(|| format!("{}_file", setting.name));
        std::iter::once(setting.name.to_owned()).chain(by_file)
    });
    let nearest = all.map(|known| (distance(&lower, &known), known)).min();
    match nearest {
        Some((edits, known)) if edits <= 2 => format!("Did you mean {}?", written(&known)),
        _ => "Remove it; src/config.default.toml lists every setting".to_owned(),
    }
}

/// How many letters must be changed, added or removed to get from one name to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let (mut left, mut diagonal) = (i + 1, i);
        for (b, cell) in to.bytes().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(a != b)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            left = here;
            *cell = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

//! Where settings come from: the layers, merged into one flat table whose rows remember their place.

use super::{Profile, print, value::Setting};
use crate::os::secret_file;
use config::{File, FileFormat, Source, Value, ValueKind};
use secrecy::ExposeSecret;
use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "SIGNET__";
/// The place of a value that is not set.
pub(super) const DEFAULT: &str = "default";
/// The place of a value that is not there.
const NOT_SET: &str = "not set";

/// The outside world as far as settings are concerned.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The folder with `{profile}.toml` and `local.toml`; `None` reads no file.
    pub directory: Option<PathBuf>,
    /// Name and value of each variable.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// `config/` below the working directory, and the environment of this process.
    pub fn of_process() -> Self {
        // A value that is not UTF-8 is read with replacement characters, and refused where it matters.
        let environment = env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value))).collect();
        Self { directory: Some(PathBuf::from("config")), environment }
    }

    pub(super) fn profile(&self) -> Result<Profile, Fault> {
        let value = self.environment.iter().rev().find(|(name, _)| name == "SIGNET_PROFILE");
        match value.map_or("", |(_, value)| value.as_str()) {
            "" | "development" => Ok(Profile::Development),
            "production" => Ok(Profile::Production),
            _ => Err(Fault::new("SIGNET_PROFILE", "the environment", "must be development or production")),
        }
    }
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} ({place}): {problem}")]
pub struct Fault {
    pub key: String,
    pub place: String,
    pub problem: String,
}

impl Fault {
    pub(super) fn new(key: &str, place: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), place: place.to_owned(), problem: problem.into() }
    }
}

/// Everything that is wrong with the settings, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

/// A value and the place it came from.
struct Sourced {
    value: Value,
    place: String,
}

/// Hands out the merged settings one by one, and notes what was asked for and what was wrong.
pub(super) struct Reader {
    rows: BTreeMap<String, Sourced>,
    defaults: BTreeMap<String, Value>,
    known: Vec<print::Line>,
    faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn merge(sources: &Sources) -> Self {
        let mut reader =
            Self { rows: BTreeMap::new(), defaults: BTreeMap::new(), known: Vec::new(), faults: Vec::new() };
        reader.layer(DEFAULT, include_str!("../../config/default.toml"));
        reader.defaults = reader.rows.iter().map(|(key, row)| (key.clone(), row.value.clone())).collect();
        let profile = match sources.profile() {
            Ok(Profile::Production) => ("production", include_str!("../../config/production.toml")),
            _ => ("development", include_str!("../../config/development.toml")),
        };
        reader.layer(profile.0, profile.1);
        for name in [profile.0, "local"] {
            if let Some(directory) = &sources.directory {
                reader.file(&directory.join(format!("{name}.toml")));
            }
        }
        reader.environment(&sources.environment);
        reader
    }

    fn file(&mut self, path: &Path) {
        let place = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => self.layer(&place, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.fault(Fault::new("the whole file", &place, format!("cannot be read: {}", error.kind()))),
        }
    }

    /// Lays a TOML text over what is there.
    fn layer(&mut self, place: &str, text: &str) {
        match File::from_str(text, FileFormat::Toml).collect() {
            Ok(table) => table.into_iter().for_each(|(key, value)| self.flatten(key, value, place)),
            // The parser's message quotes the line, which may hold a secret; its position is what helps.
            Err(error) => {
                let message = error.to_string();
                let position = message.lines().next().unwrap_or_default();
                let position = position.split_once(" at ").map_or("its numbers and dates", |(_, position)| position);
                self.fault(Fault::new("the whole file", place, format!("is not TOML: see {position}")));
            }
        }
    }

    fn flatten(&mut self, key: String, value: Value, place: &str) {
        match value.kind {
            ValueKind::Table(table) => {
                for (name, value) in table {
                    self.flatten(format!("{key}.{name}"), value, place);
                }
            }
            _ => {
                self.rows.insert(key, Sourced { value, place: place.to_owned() });
            }
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                // The line end that editors, shells and secret stores leave is not part of a value.
                let value = without_line_end(value);
                self.rows.insert(key, Sourced { value: Value::new(None, value), place: name.clone() });
            }
        }
    }

    pub(super) fn profile(&mut self, sources: &Sources) -> Profile {
        sources.profile().unwrap_or_else(|fault| {
            self.fault(fault);
            Profile::Development
        })
    }

    /// Reads one setting; what is wrong with it is noted, and its default stands in.
    pub(super) fn read<T: Setting>(&mut self, key: &'static str) -> T {
        if T::SECRET {
            self.replace_by_file(key);
        }
        let row = self.rows.get(key);
        let show = |row: &Sourced| if T::SECRET { "********".to_owned() } else { T::show(&row.value) };
        self.known.push(print::Line { key, shown: row.map(|row| (show(row), row.place.clone())) });
        match row.map(|row| T::parse(&row.value)) {
            Some(Ok(value)) => return value,
            Some(Err(fault)) => self.fault_at(key, fault),
            None => {}
        }
        let default = self.defaults.get(key).and_then(|value| T::parse(value).ok());
        #[expect(clippy::expect_used, reason = "default.toml is compiled in; a test reads it")]
        default.or_else(T::absent).expect("a key that may not be absent has a default in default.toml")
    }

    /// A secret may be kept in a file that `…_FILE` names; the line end that editors leave is not part of it.
    fn replace_by_file(&mut self, key: &'static str) {
        let Some(row) = self.rows.remove(&format!("{key}_file")) else { return };
        let path = row.value.into_string().unwrap_or_default();
        match secret_file::read(Path::new(&path)) {
            Ok(text) => {
                let secret = without_line_end(text.expose_secret());
                let place = format!("{}, {path}", row.place);
                if secret.is_empty() {
                    self.fault(Fault::new(key, &place, "the file is empty"));
                    return;
                }
                self.rows.insert(key.to_owned(), Sourced { value: Value::new(None, secret), place });
            }
            // Without the path: it may be the secret itself, set in the wrong variable.
            Err(error) => self.fault(Fault::new(key, &row.place, format!("the file that it names {error}"))),
        }
    }

    /// Whatever no section asked for.
    pub(super) fn refuse_unknown_keys(&mut self) {
        let known = |key: &str| self.known.iter().any(|line| line.key == key);
        let unknown: Vec<Fault> = self
            .rows
            .iter()
            .filter(|(key, _)| !known(key))
            .map(|(key, row)| {
                let section = key.split('.').next().unwrap_or_default();
                let keys = self.known.iter().filter_map(|line| line.key.strip_prefix(section)?.strip_prefix('.'));
                let keys = keys.collect::<Vec<_>>().join(", ");
                let problem = if keys.is_empty() {
                    "there is no such section".to_owned()
                } else {
                    format!("there is no such key; [{section}] has {keys}")
                };
                Fault::new(key, &row.place, problem)
            })
            .collect();
        self.faults.extend(unknown);
    }

    /// Notes a fault of a known key, with the place its value came from.
    pub(super) fn fault_at(&mut self, key: &str, problem: impl Into<String>) {
        let place = self.rows.get(key).map_or(NOT_SET, |row| row.place.as_str()).to_owned();
        self.fault(Fault::new(key, &place, problem));
    }

    /// Notes that two settings do not fit together, at the one that is set.
    pub(super) fn fault_at_one_of(&mut self, keys: [&str; 2], problem: impl Into<String>) {
        let is_set = |key: &&str| self.rows.get(*key).is_some_and(|row| row.place != DEFAULT);
        let key = keys.into_iter().find(is_set).unwrap_or(keys[0]);
        self.fault_at(key, problem);
    }

    /// Notes a fault, unless the same key has one: the first is the cause.
    pub(super) fn fault(&mut self, fault: Fault) {
        let is_known = |known: &Fault| known.key == fault.key && (known.place == fault.place || fault.place == NOT_SET);
        if !self.faults.iter().any(is_known) {
            self.faults.push(fault);
        }
    }

    /// `settings`, if nothing was wrong.
    pub(super) fn finish<T>(self, settings: T) -> Result<T, Faults> {
        if self.faults.is_empty() { Ok(settings) } else { Err(Faults(self.faults)) }
    }

    pub(super) fn printable(&self) -> Vec<print::Line> {
        self.known.clone()
    }
}

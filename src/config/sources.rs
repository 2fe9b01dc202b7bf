//! Where settings come from: the layers, merged into one flat table whose rows remember the place of their value.

use super::{
    Problem, Profile, Settings,
    print::Line,
    values::{self, Setting},
};
use crate::os::{reason, secret_file};
use config::{File, FileFormat, Source, Value, ValueKind};
use secrecy::ExposeSecret;
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "SIGNET__";
/// The place of a default value.
const DEFAULT: &str = "default";
/// The place of a value that is missing.
const NOT_SET: &str = "not set";

/// The folder and the environment that settings are read from.
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
        // A value that is not UTF-8 is read with replacement characters, which most settings refuse.
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let environment = env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Self { directory: Some(PathBuf::from("config")), environment }
    }

    pub(super) fn variable(&self, name: &str) -> &str {
        self.environment.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// One fault of the settings.
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

/// Every fault of the settings, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

/// A value and its place.
struct Row {
    value: Value,
    place: String,
}

/// Reads the merged settings one by one, and collects the known keys and the faults.
#[derive(Default)]
pub(super) struct Reader {
    pub profile: Profile,
    rows: BTreeMap<String, Row>,
    defaults: BTreeMap<String, Value>,
    known: Vec<Line>,
    faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn merge(sources: &Sources) -> Self {
        let mut reader = Self::default();
        match sources.variable("SIGNET_PROFILE") {
            "" | "development" => {}
            "production" => reader.profile = Profile::Production,
            _ => reader.fault(Fault::new("SIGNET_PROFILE", "the environment", "must be development or production")),
        }
        reader.layer(DEFAULT, include_str!("../../config/default.toml"));
        reader.defaults = reader.rows.iter().map(|(key, row)| (key.clone(), row.value.clone())).collect();
        let (name, text) = match reader.profile {
            Profile::Production => ("production", include_str!("../../config/production.toml")),
            Profile::Development => ("development", include_str!("../../config/development.toml")),
        };
        reader.layer(name, text);
        if let Some(directory) = &sources.directory {
            reader.file(&directory.join(format!("{name}.toml")));
            reader.file(&directory.join("local.toml"));
        }
        reader.environment(&sources.environment);
        reader
    }

    fn file(&mut self, path: &Path) {
        let place = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => self.layer(&place, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.fault(Fault::new("the whole file", &place, format!("cannot be read: {}", reason(&error))));
            }
        }
    }

    /// Overrides rows by those of a TOML text.
    fn layer(&mut self, place: &str, text: &str) {
        match File::from_str(text, FileFormat::Toml).collect() {
            Ok(table) => table.into_iter().for_each(|(key, value)| self.flatten(key, value, place)),
            // Only the position: the parser's message quotes the line, which may hold a secret.
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
                self.rows.insert(key, Row { value, place: place.to_owned() });
            }
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                // Editors, shells and secret stores append a line end, which is not part of the value.
                let value = without_line_end(value);
                self.rows.insert(key, Row { value: Value::new(None, value), place: name.clone() });
            }
        }
    }

    /// Reads one setting. After a fault it returns the default.
    pub(super) fn read<T: Setting>(&mut self, key: &'static str) -> T {
        if T::SECRET {
            self.replace_by_file(key);
        }
        let row = self.rows.get(key);
        let show = |row: &Row| if T::SECRET { "********".to_owned() } else { values::show(&row.value) };
        self.known.push(Line { key, shown: row.map(|row| (show(row), row.place.clone())) });
        match row.map(|row| T::parse(&row.value)) {
            Some(Ok(value)) => return value,
            Some(Err(problem)) => self.fault_at(key, problem),
            None => {}
        }
        let default = self.defaults.get(key).cloned().unwrap_or_else(|| Value::new(None, ""));
        #[expect(clippy::expect_used, reason = "default.toml is compiled in; a test reads it")]
        T::parse(&default).expect("only an optional key has no default in default.toml")
    }

    /// Reads a secret from the file that `…_FILE` names.
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
                self.rows.insert(key.to_owned(), Row { value: Value::new(None, secret), place });
            }
            // The fault does not repeat the path: it may be the secret itself, set in the wrong variable.
            Err(error) => self.fault(Fault::new(key, &row.place, format!("the file that it names {error}"))),
        }
    }

    /// Reports every key that no section has.
    pub(super) fn refuse_unknown_keys(&mut self) {
        for (key, row) in &self.rows {
            if self.known.iter().any(|line| line.key == key) {
                continue;
            }
            let section = key.split('.').next().unwrap_or_default();
            let keys = self.known.iter().filter_map(|line| line.key.strip_prefix(section)?.strip_prefix('.'));
            let problem = match keys.collect::<Vec<_>>().join(", ").as_str() {
                "" => "there is no such section".to_owned(),
                keys => format!("there is no such key; [{section}] has {keys}"),
            };
            self.faults.push(Fault::new(key, &row.place, problem));
        }
    }

    /// Reports problems, each at the first of its keys that is set.
    pub(super) fn report(&mut self, problems: Vec<Problem>) {
        for Problem(keys, problem) in problems {
            let is_set = |key: &&&str| self.rows.get(**key).is_some_and(|row| row.place != DEFAULT);
            let key = keys.iter().find(is_set).or(keys.first()).copied().unwrap_or_default();
            self.fault_at(key, problem);
        }
    }

    fn fault_at(&mut self, key: &str, problem: String) {
        let place = self.rows.get(key).map_or(NOT_SET, |row| row.place.as_str()).to_owned();
        self.fault(Fault::new(key, &place, problem));
    }

    /// Adds a fault, unless the same key has one: the first is the cause.
    pub(super) fn fault(&mut self, fault: Fault) {
        let is_known = |known: &Fault| known.key == fault.key && (known.place == fault.place || fault.place == NOT_SET);
        if !self.faults.iter().any(is_known) {
            self.faults.push(fault);
        }
    }

    /// Returns `settings` if there is no fault.
    pub(super) fn finish(self, settings: Settings) -> Result<Settings, Faults> {
        if self.faults.is_empty() {
            Ok(Settings { printable: self.known, ..settings })
        } else {
            Err(Faults(self.faults))
        }
    }
}

//! What the documents say is what the program knows: settings, errors, tests that are named, links.

use crate::support::all;
use signet::{config::Sources, http::Code};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The cells of each row of a table whose first is code.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Every key and its default, as `config/default.toml` has them; `–` for one that is not set.
fn defaults() -> BTreeMap<String, String> {
    let (mut section, mut keys) = (String::new(), BTreeMap::new());
    for line in include_str!("../config/default.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, rest)) = line.split_once(" =") {
            let name = key.trim_start_matches("# ");
            let is_key = !section.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_key {
                let value = rest.split('#').next().unwrap_or_default().trim();
                let value = if key.starts_with('#') { "–" } else { value };
                let value = if value == "\"\"" { value } else { value.trim_matches('"') };
                keys.insert(format!("{section}.{name}"), value.to_owned());
            }
        }
    }
    keys
}

#[test]
fn every_setting_is_explained_with_its_default() {
    let text = read("docs/settings.md");
    let explained: BTreeMap<String, String> = rows(&text)
        .map(|cells| (code(cells[0]).to_owned(), code(cells[1]).to_owned()))
        .filter(|(key, _)| key.contains('.'))
        .collect();
    assert_eq!(explained, defaults());
    // And these are all that the program reads.
    let settings = signet::app::load_settings(&Sources { directory: None, environment: Vec::new() }).unwrap();
    let printed = settings.print();
    let known: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split(' ').next())
        .filter(|key| key.contains('.'))
        .collect();
    let mut known: Vec<String> = known.into_iter().map(str::to_owned).collect();
    known.sort();
    assert_eq!(known, defaults().into_keys().collect::<Vec<_>>());
    println!("settings that are explained: {}", known.len());
}

#[test]
fn every_error_is_explained() {
    let text = read("docs/errors.md");
    let explained: BTreeMap<&str, &str> = rows(&text).map(|cells| (code(cells[0]), cells[1])).collect();
    let statuses: Vec<(&str, String)> = Code::ALL.iter().map(|code| (code.name, code.status.to_string())).collect();
    let codes: BTreeMap<&str, &str> = statuses.iter().map(|(name, status)| (*name, status.as_str())).collect();
    assert_eq!(explained, codes);
}

/// Settings that a container is given, as far as the file names them: those of production that have no default are
/// made up, and a secret comes from a file.
fn given(file: &str) -> Vec<(String, String)> {
    let text = read(file);
    let word = |text: &str| text.trim().trim_matches('"').to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let mut given = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        // `NAME: value` of Compose, `NAME=value` of a Dockerfile, `- name: NAME` and `value: …` of Kubernetes.
        let kubernetes = line.strip_prefix("- name: SIGNET__");
        let next = || lines.get(number + 1).map(|line| line.trim_start()).and_then(|line| line.strip_prefix("value:"));
        let pair = match kubernetes {
            Some(name) => Some((format!("SIGNET__{name}"), word(next().unwrap_or("")))),
            None => line.find("SIGNET__").and_then(|at| {
                let (name, value) = line[at..].split_once([':', '='])?;
                Some((name.to_owned(), word(value.trim_end_matches('\\'))))
            }),
        };
        given.extend(pair.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')));
    }
    given
}

#[test]
fn what_containers_are_given_are_settings_that_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let known = defaults();
    let mut count = 0;
    for file in
        ["Dockerfile", "docker-compose.yml", "deploy/kubernetes/deployment.yaml", "deploy/kubernetes/migrate.yaml"]
    {
        let given = given(file);
        assert!(!given.is_empty(), "{file} gives no setting");
        let mut environment = vec![("SIGNET_PROFILE".to_owned(), "production".to_owned())];
        for (name, value) in &given {
            let words = name.trim_start_matches("SIGNET__").trim_end_matches("_FILE").to_lowercase();
            let key = words.replacen("__", ".", 1);
            assert!(known.contains_key(&key), "{file}: {name} is no setting");
            count += 1;
            let value = match (key.as_str(), name.ends_with("_FILE")) {
                ("database.url", true) => secret("url", "postgres://signet:secret@db/signet"),
                ("bootstrap.superuser_password", true) => secret("password", "correct horse battery"),
                ("jwt.signing_key", true) => secret("signing", "a key that only this test knows: signing"),
                ("jwt.refresh_key", true) => secret("refresh", "a key that only this test knows: refresh"),
                (_, is_file) => {
                    assert!(!is_file, "{file}: {name} is read from a file, and this test does not know it");
                    value.clone()
                }
            };
            environment.push((name.clone(), value));
        }
        for (name, key) in [("SIGNING", "signing"), ("REFRESH", "refresh")] {
            let prefix = format!("SIGNET__JWT__{name}_KEY");
            let has_ring = name == "SIGNING" && environment.iter().any(|(name, _)| name == "SIGNET__JWT__KEYS_DIR");
            if !has_ring && !environment.iter().any(|(name, _)| name.starts_with(&prefix)) {
                environment.push((prefix, format!("a key that only this test knows: {key}")));
            }
        }
        let loaded = signet::app::load_settings(&Sources { directory: None, environment });
        assert!(loaded.is_ok(), "{file}: {}", loaded.err().unwrap());
    }
    println!("settings that containers are given: {count}");
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs"), root.join("deploy")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap();
            if !link.contains("://") && !link.starts_with("mailto:") {
                links.push((document.clone(), link.to_owned()));
            }
        }
    }
    all(
        "links",
        &links,
        |(document, link)| format!("{}: {link}", document.display()),
        |(document, link)| {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            if !target.exists() {
                return Some("there is no such file".to_owned());
            }
            let has_heading = heading.is_empty()
                || fs::read_to_string(&target)
                    .unwrap()
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading);
            (!has_heading).then(|| "there is no such heading".to_owned())
        },
    );
}

/// A threat that a test is said to cover is covered by a test that exists.
#[test]
fn tests_and_files_that_the_threat_model_names_exist() {
    fn sources(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut code);
    }
    let text = read("docs/threat-model.md");
    let names: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let is_name = |name: &str| {
        name.matches('_').count() >= 2 && name.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))
    };
    let tests: Vec<&str> = names.iter().copied().filter(|name| is_name(name) && !name.starts_with("signet_")).collect();
    assert!(tests.len() > 40, "{tests:?}");
    all(
        "tests that the threat model names",
        &tests,
        |name| (*name).to_owned(),
        |name| (!code.contains(&format!("fn {name}("))).then(|| "is no test".to_owned()),
    );
    let files: Vec<&str> =
        names.into_iter().filter(|name| name.starts_with("src/") || name.starts_with("tests/")).collect();
    all(
        "files that it names",
        &files,
        |file| (*file).to_owned(),
        |file| (!root.join(file).exists()).then(|| "is none".to_owned()),
    );
}

//! Compares the documents with the program: settings, errors, routes, names of tests, links, and the commands of the
//! README.

use crate::support::{TestApp, all, keys::algorithms};
use serde_json::Value;
use signet::{config::Sources, http::Code};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The cells of each table row whose first cell is code.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Every key and its default from `config/default.toml`; `–` for a key that is not set.
fn defaults() -> BTreeMap<String, String> {
    let (mut section, mut keys) = (String::new(), BTreeMap::new());
    for line in include_str!("../../config/default.toml").lines() {
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
    let text = read("docs/configuration.md");
    let explained: BTreeMap<String, String> = rows(&text)
        .map(|cells| (code(cells[0]).to_owned(), code(cells[1]).to_owned()))
        .filter(|(key, _)| key.contains('.'))
        .collect();
    assert_eq!(explained, defaults());
    // The program reads these keys and no others.
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

#[test]
fn every_route_is_explained() {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).unwrap();
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let text = read("docs/api.md");
    all("routes", &operations.collect::<Vec<_>>(), String::clone, |operation| {
        (!text.contains(&format!("`{operation}`"))).then(|| "is not in docs/api.md".to_owned())
    });
}

/// Every configuration and program on the page about verification is a part of a file in `examples`, which
/// `scripts/neighbours` runs. Those of Java and C# are not run.
#[test]
fn what_the_page_about_verification_shows_is_in_the_examples() {
    let page = read("docs/verify-tokens.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let parts = if path.is_dir() {
            fs::read_dir(&path).unwrap().map(|part| part.unwrap().path()).collect()
        } else {
            vec![path]
        };
        files.extend(parts.into_iter().filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()));
    }
    let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let is_of_example = |language: &str, text: &str| match language {
        "sh" | "json" | "java" | "csharp" => false,
        // Settings of Spring.
        "yaml" => !text.starts_with("spring:"),
        _ => true,
    };
    let blocks: Vec<_> = blocks.filter(|(language, text)| is_of_example(language, text)).collect();
    assert!(blocks.len() >= 10, "{} blocks", blocks.len());
    all(
        "texts of examples",
        &blocks,
        |(language, text)| format!("{language}: {}", text.lines().next().unwrap_or_default()),
        |(_, text)| (!files.iter().any(|file| file.contains(text.trim_end()))).then(|| "is in no file".to_owned()),
    );
}

/// The settings that a file gives to a container: names and values.
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
        // `NAME: value` of Compose, `NAME=value` of a Dockerfile or an .env file, `- name: NAME` and `value: …` of
        // Kubernetes.
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

/// The test makes up the production settings that have no default, and writes each secret to a file.
#[test]
fn containers_are_given_valid_settings() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let known = defaults();
    let mut count = 0;
    for file in [
        "Dockerfile",
        "docker-compose.yml",
        "compose.replicas.yml",
        "deploy/kubernetes/base/deployment.yaml",
        "deploy/kubernetes/base/settings.env",
        "deploy/kubernetes/overlays/example/settings.env",
    ] {
        let given = given(file);
        assert!(!given.is_empty(), "{file} sets no setting");
        let mut environment = vec![("SIGNET_PROFILE".to_owned(), "production".to_owned())];
        for (name, value) in &given {
            let words = name.trim_start_matches("SIGNET__").trim_end_matches("_FILE").to_lowercase();
            let key = words.replacen("__", ".", 1);
            assert!(known.contains_key(&key), "{file}: {name} is not a setting");
            count += 1;
            let value = match (key.as_str(), name.ends_with("_FILE")) {
                ("database.url", true) => secret("url", "postgres://signet:secret@db/signet"),
                ("bootstrap.superuser_password", true) => secret("password", "correct horse battery"),
                ("jwt.signing_key", true) => {
                    let given = given.iter().find(|(name, _)| name == "SIGNET__JWT__ALGORITHM");
                    let algorithm = given.map_or("HS256", |(_, algorithm)| algorithm);
                    secret("signing", algorithms().find(|(name, _)| *name == algorithm).unwrap().1)
                }
                ("jwt.refresh_key", true) => secret("refresh", "a key that only this test knows: refresh"),
                (_, is_file) => {
                    assert!(!is_file, "{file}: {name} is read from a file that this test does not create");
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

/// Every Markdown document at the root, and in `docs` and `deploy` with their subfolders.
fn documents() -> Vec<PathBuf> {
    fn collect(folder: &Path, has_folders: bool, documents: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && has_folders {
                collect(&path, true, documents);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Vec::new();
    collect(root, false, &mut documents);
    collect(&root.join("docs"), true, &mut documents);
    collect(&root.join("deploy"), true, &mut documents);
    documents
}

/// The lines of a document outside its fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    })
}

/// Columns of the table `users`: a section of the settings has the same name.
const COLUMNS: [&str; 3] = ["users.claims", "users.email_key", "users.password_hash"];

/// Documents name a setting as `section.key` or as an environment variable.
#[test]
fn settings_that_documents_name_exist() {
    let known = defaults();
    let sections: Vec<&str> = known.keys().filter_map(|key| key.split('.').next()).collect();
    let is_setting = |word: &str| {
        word.split_once('.').is_some_and(|(section, key)| {
            sections.contains(&section)
                && !key.contains('.')
                && !["md", "rs"].contains(&key)
                && !COLUMNS.contains(&word)
        })
    };
    let mut named = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        // Only the prose: code in other languages has words of the form `section.key`, too.
        let words = prose(&text).flat_map(|line| line.split(|c: char| !(c.is_ascii_lowercase() || "_.".contains(c))));
        named.extend(words.map(|word| word.trim_matches('.')).filter(|word| is_setting(word)).map(str::to_owned));
        let upper = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let variables = upper.filter_map(|word| word.strip_prefix("SIGNET__")).filter(|name| *name != "SECTION__KEY");
        let keys = variables.filter_map(|name| name.trim_end_matches("_FILE").split_once("__"));
        let keys = keys.filter(|(section, key)| !section.is_empty() && !key.is_empty() && *section != "SECTION");
        named.extend(keys.map(|(section, key)| format!("{section}.{key}").to_lowercase()));
    }
    named.sort();
    named.dedup();
    assert!(named.len() > 40, "{named:?}");
    all("settings that documents name", &named, String::clone, |name| {
        (!known.contains_key(name)).then(|| "is not a setting".to_owned())
    });
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// The anchors of a document. Of two headings with the same text, the second has `-1` at its end.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let anchor = anchor(line.trim_start_matches('#'));
        let repeated = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(if repeated == 0 { anchor } else { format!("{anchor}-{repeated}") });
    }
    anchors
}

#[test]
fn every_link_leads_to_an_existing_file_and_heading() {
    let documents = documents();
    for name in ["README.md", "SECURITY.md", "docs/README.md", "docs/migrating/from-esmerald.md"] {
        assert!(documents.contains(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)), "{name} is missing");
    }
    let mut links = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let text = prose(&text).collect::<Vec<_>>().join("\n");
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
                || anchors(&fs::read_to_string(&target).unwrap()).iter().any(|anchor| anchor == heading);
            (!has_heading).then(|| "there is no such heading".to_owned())
        },
    );
}

#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages: Vec<String> = documents()
        .iter()
        .filter_map(|path| path.strip_prefix(&folder).ok())
        .map(|path| path.display().to_string())
        .filter(|page| page != "README.md")
        .collect();
    all("pages", &pages, String::clone, |page| {
        (!index.contains(&format!("]({page})"))).then(|| "is not in docs/README.md".to_owned())
    });
}

/// The fenced blocks below a heading, with their language.
fn blocks(text: &str, heading: &str) -> Vec<(String, String)> {
    let section = text.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let fenced = section.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).map(|(kind, text)| (kind.to_owned(), text.to_owned())).collect()
}

/// Whether a reply matches the one that a document shows. `…` at the end of a text stands for any text.
fn is_shown(shown: &Value, reply: &Value) -> bool {
    match (shown, reply) {
        (Value::String(shown), Value::String(reply)) => match shown.strip_suffix('…') {
            Some(beginning) => reply.starts_with(beginning),
            None => shown == reply,
        },
        (Value::Array(shown), Value::Array(reply)) => {
            shown.len() == reply.len() && shown.iter().zip(reply).all(|(shown, reply)| is_shown(shown, reply))
        }
        (Value::Object(shown), Value::Object(reply)) => {
            shown.len() == reply.len()
                && shown.iter().all(|(name, shown)| reply.get(name).is_some_and(|reply| is_shown(shown, reply)))
        }
        _ => shown == reply,
    }
}

/// Runs the commands of the README in one shell, as a reader does, and compares each reply with the block below it.
#[tokio::test]
async fn the_flow_of_the_readme_gives_the_replies_that_it_shows() {
    const ADDRESS: &str = "http://127.0.0.1:8000";
    let app = TestApp::start().await;
    let readme = read("README.md");
    let blocks = blocks(&readme, "## The whole flow");
    let (commands, replies): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(kind, _)| kind == "sh");
    assert!(commands.len() >= 6 && commands.len() == replies.len(), "each command has one reply: {commands:?}");

    let end = "---- the end of a block ----";
    let commands: Vec<&str> = commands.iter().map(|(_, text)| text.as_str()).collect();
    let script = commands.join(&format!("\necho; echo '{end}'\n"));
    assert!(script.contains(ADDRESS), "{script}");
    let script = script.replace(ADDRESS, &format!("http://{}", app.address));
    let home = tempfile::tempdir().unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).env_clear().env("HOME", home.path());
    bash.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = tokio::task::spawn_blocking(move || bash.output()).await.unwrap().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");

    let outputs: Vec<&str> = stdout.split_terminator(end).map(str::trim).filter(|text| !text.is_empty()).collect();
    assert_eq!(outputs.len(), replies.len(), "{stdout}{stderr}");
    let rows: Vec<_> = replies.iter().zip(outputs).collect();
    all(
        "replies of the README",
        &rows,
        |((_, shown), reply)| format!("{shown}is shown, but the reply is {reply}"),
        |((kind, shown), reply)| {
            let is_shown = match kind.as_str() {
                "json" => match (serde_json::from_str(shown), serde_json::from_str(reply)) {
                    (Ok(shown), Ok(reply)) => is_shown(&shown, &reply),
                    _ => false,
                },
                _ => shown.trim() == *reply,
            };
            (!is_shown).then(|| "differs".to_owned())
        },
    );
}

/// The sources in a folder and its subfolders, by path.
fn sources(folder: &str) -> BTreeMap<String, String> {
    fn collect(root: &Path, folder: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                into.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    collect(root, &root.join(folder), &mut sources);
    sources
}

/// The texts in backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The threat model names tests for each threat. Each test must exist, in the file that is named before it.
#[test]
fn tests_and_files_that_the_threat_model_names_exist() {
    let code: BTreeMap<String, String> = ["src", "tests"].into_iter().flat_map(sources).collect();
    let text = read("docs/security.md");
    let is_name = |name: &str| {
        name.matches('_').count() >= 2 && name.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))
    };
    let mut tests = Vec::new();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    for shown_by in rows.filter_map(|line| line.trim_matches('|').split(" | ").nth(2)) {
        let mut file = String::new();
        for name in code_spans(shown_by) {
            if is_name(name) {
                tests.push((file.clone(), name));
            } else {
                file = if name.contains('/') { name.to_owned() } else { format!("tests/api/{name}.rs") };
            }
        }
    }
    assert!(tests.len() > 40, "{tests:?}");
    all(
        "tests that the threat model names",
        &tests,
        |(file, name)| format!("{file}: {name}"),
        |(file, name)| {
            let declaration = format!("fn {name}(");
            let places: Vec<&String> =
                code.iter().filter(|(_, text)| text.contains(&declaration)).map(|(path, _)| path).collect();
            (!places.contains(&file)).then(|| format!("is in {places:?}"))
        },
    );
    let files: Vec<&str> =
        code_spans(&text).filter(|name| name.starts_with("src/") || name.starts_with("tests/")).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    all(
        "files that the threat model names",
        &files,
        |file| (*file).to_owned(),
        |file| (!root.join(file).exists()).then(|| "does not exist".to_owned()),
    );
}

/// Operators alert on the messages of log lines. The first words of each message on the page must occur in the program.
#[test]
fn log_lines_that_the_operations_page_names_are_in_the_program() {
    // Joins the lines of a string literal that continues on the next line.
    let code: String = sources("src").into_values().collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = read("docs/operations.md");
    let rows = text.lines().filter(|line| line.starts_with("| ERROR") || line.starts_with("| WARN"));
    let cells = rows.filter_map(|line| line.trim_matches('|').split(" | ").nth(1));
    let messages: Vec<&str> = cells.flat_map(code_spans).collect();
    assert!(messages.len() > 10, "{messages:?}");
    all(
        "log lines that the operations page names",
        &messages,
        |message| (*message).to_owned(),
        |message| {
            // `…` stands for a variable part. A message that does not start with it follows a quotation mark in src.
            let (before, fixed) = match message.strip_prefix("… ") {
                Some(end) => (" ", end),
                None => ("\"", *message),
            };
            let fixed = fixed.split(['…', '(']).next().unwrap();
            let words = fixed.split_whitespace().take(5).collect::<Vec<_>>().join(" ");
            let beginning = format!("{before}{}", words.trim_end_matches([':', ';']));
            (!code.contains(&beginning)).then(|| format!("{beginning} is not in src"))
        },
    );
}

#[tokio::test]
async fn every_metric_is_explained() {
    let app = TestApp::start().await;
    let metrics = app.anon().get("/metrics").await.text;
    let text = read("docs/operations.md");
    let explained: Vec<&str> = rows(&text).filter_map(|cells| code(cells[0]).split('{').next()).collect();
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    names.dedup();
    assert!(names.len() >= 10, "{names:?}");
    all(
        "metrics",
        &names,
        |name| (*name).to_owned(),
        |name| {
            let name =
                ["_bucket", "_sum", "_count"].iter().fold(*name, |name, end| name.strip_suffix(end).unwrap_or(name));
            (!explained.contains(&name)).then(|| "is not in docs/operations.md".to_owned())
        },
    );
}

//! The texts of mails. A file in `mail.templates_dir` replaces the template of its name.

use super::Content;
use crate::domain::MailKind;
use minijinja::{Environment, UndefinedBehavior, context};
use std::{fs, io, path::Path};
use strum::VariantArray;

macro_rules! built_in {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

const BUILT_IN: [(&str, &str); 10] = built_in![
    "reset-password.txt",
    "reset-password.html",
    "verify-email.txt",
    "verify-email.html",
    "password-changed.txt",
    "password-changed.html",
    "email-changed.txt",
    "email-changed.html",
    "api-key-created.txt",
    "api-key-created.html"
];

/// The templates of every kind: a text whose first line is `Subject: …`, and HTML.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// # Errors
    /// A file cannot be read, or is no template.
    pub(super) fn read(folder: Option<&Path>) -> Result<Self, String> {
        let mut environment = Environment::new();
        // A misspelt name must not leave a gap in a mail.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(format!("{} is not a folder", folder.display()));
        }
        for (name, built_in) in BUILT_IN {
            let file = folder.map(|folder| fs::read_to_string(folder.join(name)));
            let source = match file {
                Some(Ok(text)) => text,
                Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(format!("{name}: {error}")),
                _ => built_in.to_owned(),
            };
            environment.add_template_owned(name, source).map_err(|error| format!("{name}: {error:#}"))?;
        }
        let templates = Self(environment);
        let sample = |link: &str| Content {
            email: "ann@example.com".to_owned(),
            link: link.to_owned(),
            code: "0123-ABCD".to_owned(),
            time: "2026-11-22T14:28:53Z".to_owned(),
        };
        for kind in MailKind::VARIANTS {
            for content in [sample(""), sample("https://app.example.com/page")] {
                templates.render(*kind, &content)?;
            }
        }
        Ok(templates)
    }

    /// Subject, text and HTML of a mail.
    ///
    /// # Errors
    /// A template uses a name that does not exist, or the text has no subject.
    pub(super) fn render(&self, kind: MailKind, content: &Content) -> Result<(String, String, String), String> {
        let Content { email, link, code, time } = content;
        let part = |ending: &str| {
            let name = format!("{}.{ending}", kind.name());
            let template = self.0.get_template(&name).map_err(|error| format!("{name}: {error:#}"))?;
            template.render(context! { email, link, code, time }).map_err(|error| format!("{name}: {error:#}"))
        };
        let (text, html) = (part("txt")?, part("html")?);
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = first.strip_prefix("Subject:").map(str::trim).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| format!("{}.txt: the first line must be `Subject: …`", kind.name()))?;
        Ok((subject.to_owned(), rest.trim_start().to_owned(), html))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_html() {
        let templates = Templates::read(None).unwrap();
        let content = Content { email: "\"<b>\"@example.com".to_owned(), ..Content::default() };
        let (_, text, html) = templates.render(MailKind::PasswordChanged, &content).unwrap();
        assert!(text.contains("<b>") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn a_file_replaces_a_template_and_its_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("verify-email.txt");
        let read = || Templates::read(Some(folder.path()));
        fs::write(&file, "Subject: Bestätigen\n\n{{ code }}").unwrap();
        let content = Content { code: "0123-ABCD".to_owned(), ..Content::default() };
        let (subject, text, _) = read().unwrap().render(MailKind::VerifyEmail, &content).unwrap();
        assert_eq!((subject.as_str(), text.as_str()), ("Bestätigen", "0123-ABCD"));
        for wrong in ["no subject", "Subject:\n", "Subject: a\n{{ coed }}", "Subject: a\n{% if %}"] {
            fs::write(&file, wrong).unwrap();
            assert!(read().err().unwrap().contains("verify-email.txt"), "{wrong}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(read().is_err(), "a folder of that name");
        assert!(Templates::read(Some(Path::new("/nowhere"))).is_err());
    }
}

//! The Swagger page in a real browser: what a person does there, by clicking. Screenshots are kept in
//! `target/tmp/swagger-…/`.

use crate::support::{PASSWORD, TestApp, process::Killed};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    key::Key,
    wd::{Capabilities, TimeoutConfiguration},
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A person at a browser without internet.
struct Person {
    client: Client,
    screenshots: PathBuf,
    taken: usize,
    _driver: Killed,
    _profile: TempDir,
}

impl Person {
    async fn sits_down() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package chromium-driver; scripts/test installs it");
        let said = BufReader::new(driver.stdout.take().unwrap());
        let driver = Killed(driver);
        let port = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split("started successfully on port ").nth(1)?.trim_end_matches('.').to_owned()))
            .expect("chromedriver says on which port it listens");
        let profile = tempfile::tempdir().unwrap();
        let user_data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            // As root it refuses to start with one; it sees nothing but our own page.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1280,1600",
            // No internet, and no attempt at it: no name can be resolved.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--disable-background-networking",
            &user_data,
        ];
        let capabilities: Capabilities =
            serde_json::from_value(json!({ "goog:chromeOptions": { "args": arguments } })).unwrap();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Debian's package chromium; scripts/test installs it");
        let timeouts = TimeoutConfiguration::new(None, None, Some(Duration::from_secs(0)));
        client.update_timeouts(timeouts).await.unwrap();
        let database = env::var("SIGNET_TEST_DATABASE").unwrap_or_else(|_| "sqlite".to_owned());
        let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("swagger-{database}"));
        let _ = fs::remove_dir_all(&screenshots);
        fs::create_dir_all(&screenshots).unwrap();
        Self { client, screenshots, taken: 0, _driver: driver, _profile: profile }
    }

    async fn sees(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(Duration::from_secs(20)).every(Duration::from_millis(50));
        wait.for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css} is not there: {error}"))
    }

    async fn clicks(&self, css: &str) {
        let element = self.sees(css).await;
        // A thing below the fold, or under a bar that moves, is brought to the middle first, as a person scrolls.
        let script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
        self.client.execute(script, vec![serde_json::to_value(&element).unwrap()]).await.unwrap();
        element.click().await.unwrap_or_else(|error| panic!("{css} cannot be clicked: {error}"));
    }

    async fn types(&self, css: &str, text: &str) {
        self.clicks(css).await;
        let field = self.sees(css).await;
        field.send_keys(&format!("{}a{}", char::from(Key::Control), char::from(Key::Null))).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn takes_a_picture(&mut self, of: &str) {
        self.taken += 1;
        let file = self.screenshots.join(format!("{}-{of}.png", self.taken));
        fs::write(file, self.client.screenshot().await.unwrap()).unwrap();
    }

    /// Opens an operation, fills in its body, sends it, and reads status and body of the answer.
    async fn tries(&mut self, operation: &str, body: Option<&Value>) -> (String, String) {
        let block = format!("#operations-User_and_Access-{operation}");
        if self.client.find(Locator::Css(&format!("{block}.is-open"))).await.is_err() {
            self.clicks(&format!("{block} .opblock-summary-control")).await;
        }
        if let Some(body) = body {
            self.types(&format!("{block} textarea.body-param__text"), &body.to_string()).await;
        }
        self.clicks(&format!("{block} button.execute")).await;
        let answer = format!("{block} .live-responses-table .response");
        let status = self.sees(&format!("{answer} .response-col_status")).await.text().await.unwrap();
        let body = self.sees(&format!("{answer} .response-col_description .highlight-code")).await;
        let body = body.text().await.unwrap();
        self.takes_a_picture(operation).await;
        self.clicks(&format!("{block} button.btn-clear")).await;
        (status.lines().next().unwrap_or_default().to_owned(), body)
    }
}

#[tokio::test]
async fn a_person_signs_up_signs_in_and_lists_users_by_clicking() {
    let app = TestApp::start().await;
    let page = format!("http://{}/docs/swagger", app.address);
    let mut person = Person::sits_down().await;
    person.client.goto(&page).await.unwrap();
    person.sees("#operations-User_and_Access-create").await;
    person.takes_a_picture("page").await;

    // Without a token: what is missing is said in words, and `type` leads to the page of errors.
    let (status, body) = person.tries("users", None).await;
    assert_eq!(status, "401");
    assert!(body.contains("Token not found in the request header") && body.contains("token-missing"), "{body}");

    let (status, body) = person.tries("create", Some(&json!({"email": "ann@example.com", "password": PASSWORD}))).await;
    assert_eq!(status, "201");
    assert!(body.contains("\"email\": \"ann@example.com\"") && !body.contains(PASSWORD), "{body}");
    let (status, body) = person.tries("signin", Some(&json!({"email": "ann@example.com", "password": PASSWORD}))).await;
    assert_eq!(status, "200");
    let access = body.split("\"access_token\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();

    person.clicks("button.authorize").await;
    person.types(".auth-container input", access).await;
    person.takes_a_picture("authorize").await;
    person.clicks(".auth-btn-wrapper button.authorize").await;
    person.clicks(".auth-btn-wrapper button.btn-done").await;
    let (status, body) = person.tries("users", None).await;
    assert_eq!(status, "200");
    assert!(body.contains("\"email\": \"ann@example.com\""), "{body}");

    // A wrong one is explained, too.
    person.clicks("button.authorize").await;
    person.clicks(".auth-btn-wrapper button.auth:not(.authorize)").await;
    person.types(".auth-container input", "not.a.token").await;
    person.clicks(".auth-btn-wrapper button.authorize").await;
    person.clicks(".auth-btn-wrapper button.btn-done").await;
    let (status, body) = person.tries("users", None).await;
    assert_eq!(status, "401");
    assert!(body.contains("invalid-token") && body.contains("malformed, forged or expired"), "{body}");

    // Everything came from here, and the page's own policy stood in the way of none of it.
    let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let loaded = person.client.execute(script, vec![]).await.unwrap();
    let loaded: Vec<&str> = loaded.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let origin = format!("http://{}/", app.address);
    assert!(loaded.len() > 3 && loaded.iter().all(|name| name.starts_with(&origin)), "{loaded:?}");
    let script = "const done = arguments[0]; const seen = []; \
        new ReportingObserver(reports => seen.push(...reports.map(report => report.body.blockedURL + ' ' + report.body.effectiveDirective)), \
        {types: ['csp-violation'], buffered: true}).observe(); setTimeout(() => done(seen), 300)";
    let violations = person.client.execute_async(script, vec![]).await.unwrap();
    assert_eq!(violations, json!([]));

    person.client.goto(&format!("http://{}/docs/errors#token-missing", app.address)).await.unwrap();
    person.sees("tr#token-missing:target").await;
    person.takes_a_picture("errors").await;
    println!("a person clicked: {} screenshots in {}", person.taken, person.screenshots.display());
    person.client.close().await.unwrap();
}

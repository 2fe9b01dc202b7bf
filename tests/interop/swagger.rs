//! The Swagger page in a real browser. Screenshots are kept in `target/tmp/swagger-…/`.

use crate::support::{PASSWORD, TestApp, process::KillOnDrop};
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

/// A browser without internet access.
struct Browser {
    client: Client,
    screenshots: PathBuf,
    taken: usize,
    _driver: KillOnDrop,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts; scripts/test installs it (Debian's package chromium-driver)");
        let output = BufReader::new(driver.stdout.take().unwrap());
        let driver = KillOnDrop(driver);
        let port = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split("started successfully on port ").nth(1)?.trim_end_matches('.').to_owned()))
            .expect("chromedriver prints its port");
        let profile = tempfile::tempdir().unwrap();
        let user_data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            // Chromium refuses to start as root with a sandbox; it loads nothing but pages of the service.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1280,1600",
            // No name resolves, so nothing is loaded from the internet.
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
            .expect("Chromium starts; scripts/test installs it (Debian's package chromium)");
        let timeouts = TimeoutConfiguration::new(None, None, Some(Duration::from_secs(0)));
        client.update_timeouts(timeouts).await.unwrap();
        let database = env::var("SIGNET_TEST_DATABASE").unwrap_or_else(|_| "sqlite".to_owned());
        let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("swagger-{database}"));
        let _ = fs::remove_dir_all(&screenshots);
        fs::create_dir_all(&screenshots).unwrap();
        Self { client, screenshots, taken: 0, _driver: driver, _profile: profile }
    }

    async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(Duration::from_secs(20)).every(Duration::from_millis(50));
        wait.for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css} does not appear: {error}"))
    }

    async fn click(&self, css: &str) {
        let element = self.find(css).await;
        // The element may be outside the view or under a sticky bar.
        let script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
        self.client.execute(script, vec![serde_json::to_value(&element).unwrap()]).await.unwrap();
        element.click().await.unwrap_or_else(|error| panic!("{css} cannot be clicked: {error}"));
    }

    async fn type_text(&self, css: &str, text: &str) {
        self.click(css).await;
        let field = self.find(css).await;
        field.send_keys(&format!("{}a{}", char::from(Key::Control), char::from(Key::Null))).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn screenshot(&mut self, of: &str) {
        self.taken += 1;
        let file = self.screenshots.join(format!("{}-{of}.png", self.taken));
        fs::write(file, self.client.screenshot().await.unwrap()).unwrap();
    }

    /// Writes into the field of a path parameter.
    async fn set_id(&mut self, operation: &str, id: &str) {
        let block = format!("#operations-User_and_Access-{operation}");
        self.click(&format!("{block} .opblock-summary-control")).await;
        self.type_text(&format!("{block} tr[data-param-name=\"id\"] input"), id).await;
    }

    /// Opens an operation, fills in its body, sends it, and returns status and body of the reply.
    async fn try_operation(&mut self, operation: &str, body: Option<&Value>) -> (String, String) {
        let block = format!("#operations-User_and_Access-{operation}");
        if self.client.find(Locator::Css(&format!("{block}.is-open"))).await.is_err() {
            self.click(&format!("{block} .opblock-summary-control")).await;
        }
        if let Some(body) = body {
            self.type_text(&format!("{block} textarea.body-param__text"), &body.to_string()).await;
        }
        self.click(&format!("{block} button.execute")).await;
        let answer = format!("{block} .live-responses-table .response");
        let status = self.find(&format!("{answer} .response-col_status")).await.text().await.unwrap();
        let body = self.find(&format!("{answer} .response-col_description .highlight-code")).await;
        let body = body.text().await.unwrap();
        self.screenshot(operation).await;
        self.click(&format!("{block} button.btn-clear")).await;
        (status.lines().next().unwrap_or_default().to_owned(), body)
    }
}

#[tokio::test]
async fn a_user_signs_up_signs_in_and_changes_a_user_as_staff_in_a_browser() {
    let app = TestApp::start().await;
    let page = format!("http://{}/docs/swagger", app.address);
    let mut browser = Browser::start().await;
    browser.client.goto(&page).await.unwrap();
    browser.find("#operations-User_and_Access-create").await;
    browser.screenshot("page").await;

    // Without a token the reply says what is missing.
    let (status, body) = browser.try_operation("users", None).await;
    assert_eq!(status, "401");
    assert!(body.contains("Token not found in the request header") && body.contains("token-missing"), "{body}");

    let (status, body) =
        browser.try_operation("create", Some(&json!({"email": "ann@example.com", "password": PASSWORD}))).await;
    assert_eq!(status, "201");
    assert!(body.contains("\"email\": \"ann@example.com\"") && !body.contains(PASSWORD), "{body}");
    let (status, body) =
        browser.try_operation("signin", Some(&json!({"email": "ann@example.com", "password": PASSWORD}))).await;
    assert_eq!(status, "200");
    let access = body.split("\"access_token\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();

    browser.click("button.authorize").await;
    browser.type_text(".auth-container input", access).await;
    browser.screenshot("authorize").await;
    browser.click(".auth-btn-wrapper button.authorize").await;
    browser.click(".auth-btn-wrapper button.btn-done").await;
    let (status, body) = browser.try_operation("users", None).await;
    assert_eq!(status, "200");
    assert!(body.contains("\"email\": \"ann@example.com\""), "{body}");

    // As staff, the user changes another one.
    let bob = app.create("bob@example.com").await.json["id"].to_string();
    app.database.execute("UPDATE users SET is_staff = TRUE WHERE email = 'ann@example.com'").await;
    browser.set_id("update_user", &bob).await;
    let (status, body) = browser.try_operation("update_user", Some(&json!({"is_active": false}))).await;
    assert_eq!(status, "200");
    assert!(body.contains("\"email\": \"bob@example.com\"") && body.contains("\"is_active\": false"), "{body}");

    // With an invalid token the reply says that it is invalid.
    browser.click("button.authorize").await;
    browser.click(".auth-btn-wrapper button.auth:not(.authorize)").await;
    browser.type_text(".auth-container input", "not.a.token").await;
    browser.click(".auth-btn-wrapper button.authorize").await;
    browser.click(".auth-btn-wrapper button.btn-done").await;
    let (status, body) = browser.try_operation("users", None).await;
    assert_eq!(status, "401");
    assert!(body.contains("invalid-token") && body.contains("malformed, forged, expired"), "{body}");

    // The page loaded everything from the service, and its content security policy blocked nothing.
    let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let loaded = browser.client.execute(script, vec![]).await.unwrap();
    let loaded: Vec<&str> = loaded.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let origin = format!("http://{}/", app.address);
    assert!(loaded.len() > 3 && loaded.iter().all(|name| name.starts_with(&origin)), "{loaded:?}");
    let script = "const done = arguments[0]; const seen = []; \
        new ReportingObserver(reports => seen.push(...reports.map(report => report.text.blockedURL + ' ' + report.text.effectiveDirective)), \
        {types: ['csp-violation'], buffered: true}).observe(); setTimeout(() => done(seen), 300)";
    let violations = browser.client.execute_async(script, vec![]).await.unwrap();
    assert_eq!(violations, json!([]));

    browser.client.goto(&format!("http://{}/docs/errors#token-missing", app.address)).await.unwrap();
    browser.find("tr#token-missing:target").await;
    browser.screenshot("errors").await;
    println!("{} screenshots in {}", browser.taken, browser.screenshots.display());
    browser.client.close().await.unwrap();
}

//! The HTML pages: `GET /docs/swagger/` and `GET /docs/errors`

use crate::support::{TestApp, all, all_replies};
use signet::http::Code;

#[tokio::test]
async fn the_swagger_page_loads_every_file_from_the_service() {
    let app = TestApp::start().await;
    let anon = app.anon();
    for path in ["/", "/docs/swagger"] {
        let reply = anon.get(path).await;
        assert_eq!((reply.status, reply.header("location")), (302, "/docs/swagger/"), "{path}");
    }
    let page = anon.get("/docs/swagger/").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(!page.text.contains("//unpkg.com") && !page.text.contains("https://"), "{}", page.text);
    let files: Vec<&str> = page.text.split(['"', '\'']).filter(|text| text.starts_with("./")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let reply = anon.get(&format!("/docs/swagger/{}", file.trim_start_matches("./"))).await;
        assert_eq!(reply.status, 200, "{file}");
    }
    let script = anon.get("/docs/swagger/swagger-initializer.js").await;
    assert!(script.text.contains("../../openapi.json") && script.text.contains("none"), "{}", script.text);
}

#[tokio::test]
async fn the_errors_page_lists_every_code() {
    let app = TestApp::start().await;
    let page = app.anon().get("/docs/errors").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"));
    let rows: Vec<_> = Code::ALL.iter().map(|code| (code.name, code.status)).collect();
    all(
        "codes on the page",
        &rows,
        |row| row.0.to_owned(),
        |(code, status)| {
            (!page.text.contains(&format!("<tr id=\"{code}\"><td><code>{code}</code><td>{status}<td>")))
                .then(|| "is missing".to_owned())
        },
    );
}

#[tokio::test]
async fn pages_can_be_turned_off() {
    let app = TestApp::with(&[("SERVER__DOCS", "false")]).await;
    for path in ["/", "/docs/swagger", "/docs/swagger/", "/docs/errors"] {
        assert_eq!(app.anon().get(path).await.status, 404, "{path}");
    }
    assert_eq!(app.anon().get("/openapi.json").await.status, 200);
}

#[tokio::test]
async fn pages_forbid_foreign_content_and_framing() {
    let app = TestApp::start().await;
    let paths = ["/docs/swagger/", "/docs/swagger/swagger-ui-bundle.js", "/docs/errors"];
    let fault = async |path: &&str| {
        let reply = app.anon().get(path).await;
        let policy = reply.header("content-security-policy");
        let is_right = reply.status == 200
            && policy.contains("default-src 'none'")
            && policy.contains("script-src 'self';")
            && policy.contains("frame-ancestors 'none'")
            && reply.header("x-frame-options") == "DENY"
            && reply.header("referrer-policy") == "no-referrer";
        (!is_right).then(|| format!("{:?}", reply.headers))
    };
    all_replies("pages", paths, |path| (*path).to_owned(), fault).await;
}

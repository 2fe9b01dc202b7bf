//! Mail over SMTP, to a server that misbehaves in every way that servers do.

use crate::support::{Endpoint, TestApp, email, eventually_within};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What the server does with a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Accept,
    /// Replies 4xx: try again.
    RefuseNow,
    /// Replies that the mailbox does not exist: never try again.
    RefuseForEver,
    /// Replies 5xx for another reason.
    RefuseThisServer,
    /// Closes the connection in the middle of a mail.
    Close,
}

/// An SMTP server on loopback.
struct SmtpServer {
    url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    /// The commands and the mails that it has received, connection by connection.
    received: Arc<Mutex<Vec<String>>>,
}

impl SmtpServer {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://signet:p%40ss@{}", listener.local_addr().unwrap());
        let (behaviour, received) = (Arc::new(Mutex::new(behaviour)), Arc::default());
        let (how, into) = (Arc::clone(&behaviour), Arc::clone(&received));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (how, into) = (Arc::clone(&how), Arc::clone(&into));
                tokio::spawn(async move {
                    let _ = serve(connection, &how, &into).await;
                });
            }
        });
        Self { url, behaviour, received }
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn mails(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(
    connection: TcpStream,
    behaviour: &Mutex<Behaviour>,
    received: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    connection.write_all(b"220 test ESMTP\r\n").await?;
    let mut session = String::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        session.push_str(&line);
        let how = *behaviour.lock().unwrap();
        let reply = match line.split([' ', '\r', ':']).next().unwrap_or_default() {
            "EHLO" => "250-test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN\r\n",
            "AUTH" => "235 accepted\r\n",
            "RCPT" => match how {
                Behaviour::RefuseNow => "451 <secret@example.com>: try later\r\n",
                Behaviour::RefuseThisServer => "554 <secret@example.com>: your server is listed\r\n",
                Behaviour::RefuseForEver => "550 <secret@example.com>: no such user\r\n",
                Behaviour::Accept | Behaviour::Close => "250 ok\r\n",
            },
            "DATA" if how == Behaviour::Close => return Ok(()),
            "DATA" => {
                connection.write_all(b"354 go on\r\n").await?;
                while !session.ends_with("\r\n.\r\n") {
                    let mut line = String::new();
                    connection.read_line(&mut line).await?;
                    session.push_str(&line);
                }
                received.lock().unwrap().push(std::mem::take(&mut session));
                "250 queued\r\n"
            }
            "QUIT" => return Ok(()),
            _ => "250 ok\r\n",
        };
        connection.write_all(reply.as_bytes()).await?;
    }
}

async fn with_mail(url: &str) -> TestApp {
    TestApp::with(&[("MAIL__SMTP_URL", url), ("MAIL__FROM", "Example <id@example.com>")]).await
}

async fn ask_for_reset(service: &Endpoint, email: &str) {
    let reply = service.anon().post("/auth/password/reset", &json!({"email": email})).await;
    assert_eq!(reply.status, 202);
}

async fn tries(app: &TestApp) -> String {
    app.database.value("SELECT CAST(COALESCE(MAX(tries), 0) AS TEXT) FROM outbox WHERE kind = 'reset-password'").await
}

#[tokio::test]
async fn a_mail_arrives_at_an_smtp_server() {
    let server = SmtpServer::start(Behaviour::Accept).await;
    let app = with_mail(&server.url).await;
    let ann = app.user().await;
    eventually_within(10, 1, async || server.mails().len()).await;
    ask_for_reset(&app, &ann.email).await;
    eventually_within(10, 2, async || server.mails().len()).await;
    let mail = server.mails().remove(1);
    println!("{mail}");
    for part in [
        "MAIL FROM:<id@example.com>",
        &format!("RCPT TO:<{}>", ann.email),
        "From: Example <id@example.com>",
        "Subject: Set a new password",
        "Auto-Submitted: auto-generated",
        "Message-ID: <",
        "Date: ",
        "with this code: ",
    ] {
        assert!(mail.contains(part), "{part}");
    }
    assert!(!mail.contains("http"), "no link without mail.link_base");
    let first = server.mails().remove(0);
    assert!(first.contains("AUTH PLAIN"), "the user and the password of the address: {first}");
}

#[tokio::test]
async fn a_server_that_refuses_or_closes_gets_the_mail_later() {
    for behaviour in [Behaviour::RefuseNow, Behaviour::RefuseThisServer, Behaviour::Close] {
        let server = SmtpServer::start(behaviour).await;
        let app = with_mail(&server.url).await;
        let ann = app.user().await;
        ask_for_reset(&app, &ann.email).await;
        eventually_within(10, "1".to_owned(), async || tries(&app).await).await;
        app.advance(15);
        eventually_within(10, "2".to_owned(), async || tries(&app).await).await;
        assert_eq!(app.anon().get("/livez").await.status, 200);
        server.set(Behaviour::Accept);
        app.advance(30);
        eventually_within(10, 2, async || server.mails().len()).await;
        // The hour of a code begins when its mail is sent.
        let sent = format!("SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE is_done AND at = {}", app.now());
        eventually_within(10, "2".to_owned(), async || app.database.value(&sent).await).await;
    }
}

#[tokio::test]
async fn a_mail_that_a_server_refuses_for_ever_or_for_a_day_is_given_up() {
    let server = SmtpServer::start(Behaviour::RefuseForEver).await;
    let app = with_mail(&server.url).await;
    let open = async || app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE NOT is_done").await;
    ask_for_reset(&app, &app.user().await.email).await;
    eventually_within(10, "0".to_owned(), open).await;
    server.set(Behaviour::RefuseNow);
    app.create(&email()).await;
    eventually_within(10, "1".to_owned(), async || {
        app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE tries = 1").await
    })
    .await;
    app.advance(24 * 60 * 60);
    eventually_within(10, "0".to_owned(), open).await;
    assert_eq!(server.mails().len(), 0);
}

#[tokio::test]
async fn an_address_cannot_add_a_header_or_a_command() {
    let server = SmtpServer::start(Behaviour::Accept).await;
    let app = with_mail(&server.url).await;
    for address in
        ["ann@example.com\r\nBcc: eve@example.com", "ann@example.com>\r\nRCPT TO:<eve@example.com", "a\nb@example.com"]
    {
        ask_for_reset(&app, address).await;
        let body = json!({"email": address, "password": crate::support::PASSWORD});
        assert_eq!(app.anon().post("/auth/create", &body).await.status, 400);
    }
    // An account from before the rules of today.
    let ann = app.user().await;
    eventually_within(10, 1, async || server.mails().len()).await;
    let sql = format!("UPDATE users SET email = 'x' || CHAR(10) || 'y@example.com' WHERE id = {}", ann.id);
    app.database.execute(&if app.database.is_sqlite() { sql } else { sql.replace("CHAR(", "CHR(") }).await;
    ask_for_reset(&app, &ann.email).await;
    let open = async || app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE NOT is_done").await;
    eventually_within(10, "0".to_owned(), open).await;
    assert_eq!(server.mails().len(), 1);
}

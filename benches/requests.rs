//! Requests a second of Signet, each as a ratio to a bare actix-web server that does the least which the request needs.
//! `scripts/bench-requests` runs it.
//!
//! | request | the bare server |
//! |---|---|
//! | `GET /auth/verify`, HS256 | answers 200 without a body |
//! | `GET /auth/verify`, `EdDSA` | verifies the same token with jsonwebtoken, and answers 200 without a body |
//! | `GET /auth/users/me` | reads a user by its key with sqlx, and answers it as JSON |
//! | `POST /auth/refresh-access` | reads the JSON body, the session and its user, and answers JSON of the same length |
//! | `POST /oauth/token` | reads the form and a client by its key, and answers JSON of the same length |
//!
//! Both servers are processes of their own with as many workers as cores, and take turns. wrk loads them from one thread
//! over 32 connections.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark; when it cannot go on it stops"
)]

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::header,
    web::{self, Bytes, Data},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
use serde_json::{Value, json};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use uuid::Uuid;

const TURNS: usize = 5;
const ISSUER: &str = "http://127.0.0.1";

/// The columns that a user's reply needs.
macro_rules! user_where {
    ($rest:literal) => {
        concat!("SELECT users.id, email, username, first_name, last_name FROM ", $rest)
    };
}
const ME: &str = user_where!(
    "users WHERE users.id = 1 AND users.is_active
     AND EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND user_id = 1 AND revoked_at IS NULL)"
);
const SESSION: &str = user_where!(
    "sessions, users WHERE sessions.id = $1 AND sessions.revoked_at IS NULL AND users.id = sessions.user_id AND users.is_active"
);
const CLIENT: &str = "SELECT name, scopes FROM clients WHERE id = $1";

type UserRow = (i64, String, String, String, String);

enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    async fn user(&self, sql: &'static str, session: Uuid) -> UserRow {
        match self {
            Self::Sqlite(pool) => sqlx::query_as(sql).bind(session).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_as(sql).bind(session).fetch_one(pool).await.unwrap(),
        }
    }

    async fn client(&self, id: Uuid) -> (String, String) {
        match self {
            Self::Sqlite(pool) => sqlx::query_as(CLIENT).bind(id).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_as(CLIENT).bind(id).fetch_one(pool).await.unwrap(),
        }
    }
}

/// What the bare server knows.
struct Bare {
    pool: Pool,
    key: Option<DecodingKey>,
    validation: Validation,
    client: Uuid,
    session: Uuid,
    filler: String,
}

async fn nothing() -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn verify(bare: Data<Bare>, request: HttpRequest) -> HttpResponse {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    match decode::<Value>(token, bare.key.as_ref().unwrap(), &bare.validation) {
        Ok(_) => HttpResponse::Ok().finish(),
        Err(_) => HttpResponse::Unauthorized().finish(),
    }
}

async fn me(bare: Data<Bare>) -> HttpResponse {
    let (id, email, username, first_name, last_name) = bare.pool.user(ME, bare.session).await;
    HttpResponse::Ok().json(json!({
        "id": id, "email": email, "username": username, "first_name": first_name, "last_name": last_name,
        "is_active": true, "is_staff": false, "is_superuser": false, "is_verified": false,
        "created_at": "2026-11-22T14:28:53Z", "last_login": "2026-11-22T14:28:53Z",
    }))
}

async fn refresh(bare: Data<Bare>, body: web::Json<Value>) -> HttpResponse {
    assert!(body["refresh_token"].is_string());
    let (id, ..) = bare.pool.user(SESSION, bare.session).await;
    HttpResponse::Ok().json(json!({ "access_token": bare.filler, "token_type": "Bearer", "expires_in": id }))
}

async fn token(bare: Data<Bare>, form: Bytes) -> HttpResponse {
    let form: BTreeMap<String, String> = form_urlencoded::parse(&form).into_owned().collect();
    assert!(form.contains_key("grant_type"));
    let (_, scopes) = bare.pool.client(bare.client).await;
    HttpResponse::Ok().json(json!({
        "access_token": bare.filler, "token_type": "Bearer", "expires_in": 300, "scope": scopes,
    }))
}

/// Runs the bare server until it is killed: `requests bare DATABASE JWKS CLIENT SESSION`.
#[actix_web::main]
async fn bare(arguments: &[String]) -> std::io::Result<()> {
    let [database, key_set, client, session] = arguments else { panic!("bare DATABASE JWKS CLIENT SESSION") };
    let set: JwkSet = serde_json::from_str(&fs::read_to_string(key_set)?)?;
    let key = set.keys.first().map(|key| DecodingKey::from_jwk(key).unwrap());
    let client = Uuid::parse_str(client.strip_prefix("client_").unwrap()).unwrap();
    let session = Uuid::parse_str(session).unwrap();
    let (database, workers) = (database.clone(), std::thread::available_parallelism()?.get());
    let connect = async move || {
        let Some(path) = database.strip_prefix("sqlite://") else {
            let options = PgPoolOptions::new().max_connections(10).test_before_acquire(false);
            return Pool::Postgres(options.connect(&database).await.unwrap());
        };
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        Pool::Sqlite(SqlitePoolOptions::new().max_connections(10).connect_with(options).await.unwrap())
    };
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    let bare = Data::new(Bare { pool: connect().await, key, validation, client, session, filler: "x".repeat(380) });
    let app = move || {
        App::new()
            .app_data(bare.clone())
            .route("/nothing", web::get().to(nothing))
            .route("/verify", web::get().to(verify))
            .route("/me", web::get().to(me))
            .route("/refresh", web::post().to(refresh))
            .route("/token", web::post().to(token))
    };
    let server = HttpServer::new(app).workers(workers).bind("127.0.0.1:0")?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut lines = lines.skip_while(|line| !line.contains("listening on http://"));
        let line = lines.next().expect("the server starts");
        let address = line.split("http://").nth(1).unwrap().trim().to_owned();
        // The pipe must not fill.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Seconds on a core since the start.
    fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    fn post(&self, path: &str, authorization: &str, content_type: &str, body: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--noproxy", "*", "-H", authorization, "-H", content_type, "-d", body]);
        let output = curl.arg(format!("http://{}{path}", self.address)).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request to both servers.
struct Load {
    method: &'static str,
    path: &'static str,
    bare: &'static str,
    target: f64,
    authorization: String,
    content_type: &'static str,
    body: String,
}

impl Load {
    /// Requests a second, and microseconds on a core for each.
    fn run(&self, server: &Server, path: &str, folder: &Path) -> (f64, f64) {
        let script = folder.join("request.lua");
        let Self { method, authorization, content_type, body, .. } = self;
        let mut text = format!("wrk.method = {method:?}\nwrk.body = [[{body}]]\n");
        for (name, value) in [("authorization", authorization.as_str()), ("content-type", content_type)] {
            if !value.is_empty() {
                text = format!("{text}wrk.headers[{name:?}] = {value:?}\n");
            }
        }
        fs::write(&script, text).unwrap();
        let before = server.cpu();
        let wrk = env::var("SIGNET_BENCH_WRK").unwrap_or_else(|_| "wrk".to_owned());
        let seconds = env::var("SIGNET_BENCH_SECONDS").unwrap_or_else(|_| "4".to_owned());
        let mut wrk = Command::new(wrk);
        wrk.args(["-t1", "-c32", &format!("-d{seconds}s"), "-s"]).arg(&script);
        let output = wrk.arg(format!("http://{}{path}", server.address)).output().expect("wrk is installed");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !printed.contains("Non-2xx"), "{path}: {printed}");
        let number = |name: &str| {
            let line = printed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{printed}"));
            line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap()
        };
        let (rate, requests) = (number("Requests/sec"), number("requests in"));
        (rate, (server.cpu() - before) * 1e6 / requests)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Starts Signet on a database, and measures each request against the bare server.
fn measure(algorithm: &str, database: &str, folder: &Path, rows: &mut Vec<String>) {
    let signet = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signet"));
        command.args(arguments).current_dir(folder).env("SIGNET__DATABASE__URL", database);
        command.env("SIGNET__DATABASE__MIGRATE_ON_START", "true").env("SIGNET__SERVER__BIND", "127.0.0.1:0");
        command.env("SIGNET__JWT__ALGORITHM", algorithm).env("SIGNET__JWT__ISSUER", ISSUER);
        command.env("SIGNET__RATE_LIMIT__ENABLED", "false").env("SIGNET__TELEMETRY__LOG", "warn");
        command
    };
    let server = Server::start(&mut signet(&["serve"]));
    std::thread::sleep(Duration::from_millis(500));
    let client = signet(&["client", "create", "bench", "--scope", "orders:read", "--json"]).output().unwrap();
    let client: Value = serde_json::from_slice(&client.stdout).unwrap();
    let (id, secret) = (client["id"].as_str().unwrap(), client["secret"].as_str().unwrap());
    let (none, json_type, form_type) =
        ("accept: */*", "content-type: application/json", "application/x-www-form-urlencoded");
    let ann = json!({ "email": "ann@example.com", "password": "correct horse battery" }).to_string();
    if algorithm == "HS256" {
        server.post("/auth/create", none, json_type, &ann);
    }
    let tokens = server.post("/auth/signin", none, json_type, &ann);
    let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", text("access_token"));
    let claims = URL_SAFE_NO_PAD.decode(text("access_token").split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let sid = claims["sid"].as_str().unwrap();
    let key_set = Command::new("curl")
        .args(["-sS", "--noproxy", "*"])
        .arg(format!("http://{}/.well-known/jwks.json", server.address))
        .output();
    fs::write(folder.join("jwks.json"), key_set.unwrap().stdout).unwrap();
    let mut bare = Command::new(env::current_exe().unwrap());
    let bare = Server::start(
        bare.arg("bare").arg(database).arg(folder.join("jwks.json")).arg(id).arg(sid).current_dir(folder),
    );

    let get = |path, bare, target| Load {
        method: "GET",
        path,
        bare,
        target,
        authorization: bearer.clone(),
        content_type: "",
        body: String::new(),
    };
    let refresh = json!({ "refresh_token": text("refresh_token") }).to_string();
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let post = |path, bare, content_type, body: &str| Load {
        method: "POST",
        path,
        bare,
        target: 0.7,
        authorization: String::new(),
        content_type,
        body: body.to_owned(),
    };
    let loads = if algorithm == "EdDSA" {
        vec![get("/auth/verify", "/verify", 0.8)]
    } else {
        vec![
            get("/auth/verify", "/nothing", 0.6),
            get("/auth/users/me", "/me", 0.7),
            post("/auth/refresh-access", "/refresh", "application/json", &refresh),
            post("/oauth/token", "/token", form_type, &form),
        ]
    };
    let kind = database.split(':').next().unwrap();
    for load in loads {
        let (mut rates, mut limits, mut ratios, mut costs) = (vec![], vec![], vec![], vec![]);
        for _ in 0..TURNS {
            let (limit, limit_cost) = load.run(&bare, load.bare, folder);
            let (rate, cost) = load.run(&server, load.path, folder);
            rates.push(rate);
            limits.push(limit);
            ratios.push(rate / limit);
            costs.push((cost, limit_cost));
        }
        let spread = |pick: fn(f64, f64) -> f64| ratios.iter().copied().reduce(pick).unwrap();
        let row = format!(
            "| `{} {}`, {algorithm}, {kind} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) | {:.1} | {:.1} and {:.1} µs |",
            load.method,
            load.path,
            median(rates),
            median(limits),
            median(ratios.clone()),
            spread(f64::min),
            spread(f64::max),
            load.target,
            median(costs.iter().map(|cost| cost.0).collect()),
            median(costs.iter().map(|cost| cost.1).collect()),
        );
        println!("{row}");
        rows.push(row);
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "bare") {
        return bare(&arguments[1..]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/signet.db", folder.path().display());
    let mut rows = Vec::new();
    measure("HS256", &sqlite, folder.path(), &mut rows);
    measure("EdDSA", &sqlite, folder.path(), &mut rows);
    if let Ok(postgres) = env::var("SIGNET_BENCH_POSTGRES") {
        measure("HS256", &postgres, folder.path(), &mut rows);
    }
    println!(
        "\n| request | Signet, a second | bare | ratio (of {TURNS} turns) | aim | of a core for each |\n|---|---|---|---|---|---|"
    );
    println!("{}", rows.join("\n"));
}

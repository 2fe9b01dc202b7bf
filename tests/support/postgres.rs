//! A PostgreSQL server for one test, which can stop, kill, freeze, copy and promote it.

use super::{
    eventually,
    process::{KillOnDrop, free_port},
    within,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::{
    env,
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::sleep};

pub struct OwnPostgres {
    child: Option<KillOnDrop>,
    folder: TempDir,
    bin: String,
    user: Option<String>,
    port: u16,
}

impl OwnPostgres {
    /// Starts a new server; `None` when the tests run on SQLite.
    pub async fn start() -> Option<Self> {
        let bin = env::var("SIGNET_TEST_POSTGRES_BIN").ok()?;
        if env::var("SIGNET_TEST_DATABASE").as_deref() != Ok("postgres") {
            return None;
        }
        let user = env::var("SIGNET_TEST_POSTGRES_USER").ok().filter(|user| !user.is_empty());
        let mut own = Self::without_data(bin, user);
        let mut initdb = own.command("initdb");
        let data = own.data();
        let initdb = initdb.args(["-D", &data, "-U", "signet", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        assert!(initdb.stdout(Stdio::null()).status().unwrap().success());
        own.serve().await;
        Some(own)
    }

    fn without_data(bin: String, user: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some(user) = &user {
            assert!(Command::new("chown").arg(user).arg(folder.path()).status().unwrap().success());
        }
        Self { child: None, folder, bin, user, port: free_port() }
    }

    /// A streaming standby of this server.
    pub async fn standby(&self) -> Self {
        let mut standby = Self::without_data(self.bin.clone(), self.user.clone());
        standby.follow(self).await;
        standby
    }

    /// Replaces the data of this stopped server with a copy of the primary's, and starts it as a streaming standby of
    /// that primary.
    pub async fn follow(&mut self, primary: &Self) {
        let (data, port) = (self.data(), primary.port.to_string());
        if Path::new(&data).exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        primary.until_it_answers().await;
        let mut copy = self.command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-p", &port, "-U", "signet", "-D", &data, "--write-recovery-conf"]);
        copy.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        let copied = spawn_blocking(move || copy.status()).await.unwrap();
        assert!(copied.unwrap().success());
        self.serve().await;
        self.until_it_answers().await;
        assert_eq!(self.value("SELECT CAST(pg_is_in_recovery() AS TEXT)").await, "true");
    }

    /// Waits until the server accepts a client; its port is open earlier.
    async fn until_it_answers(&self) {
        let url = self.url();
        eventually(true, async || Box::pin(PgConnection::connect(&url)).await.is_ok()).await;
    }

    /// Promotes a standby to primary, and waits until the promotion is complete.
    pub async fn promote(&self) {
        assert_eq!(self.value("SELECT CAST(pg_promote() AS TEXT)").await, "true");
    }

    /// Makes a standby lag: it still receives changes but no longer applies them.
    pub async fn pause_replay(&self) {
        self.execute("SELECT pg_wal_replay_pause()").await;
        eventually("paused".to_owned(), async || self.value("SELECT pg_get_wal_replay_pause_state()").await).await;
    }

    /// Waits until this standby has applied everything that the primary has written so far.
    pub async fn catches_up_with(&self, primary: &Self) {
        let written = primary.value("SELECT CAST(pg_current_wal_lsn() AS TEXT)").await;
        let is_applied = format!("SELECT CAST(pg_last_wal_replay_lsn() >= '{written}' AS TEXT)");
        eventually("true".to_owned(), async || self.value(&is_applied).await).await;
    }

    /// One value of one row, as text.
    pub async fn value(&self, sql: &str) -> String {
        let mut connection = Box::pin(PgConnection::connect(&self.url())).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        let mut connection = Box::pin(PgConnection::connect(&self.url())).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    /// The folder of this server, owned by the user that the server runs as.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        self.as_server(format!("{}/{program}", self.bin))
    }

    /// A program that runs as the user of this server, because the program refuses to run as root.
    pub fn as_server(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                let group = Command::new("id").args(["-g", user]).output().unwrap().stdout;
                let group = String::from_utf8(group).unwrap();
                let user =
                    [format!("--reuid={user}"), format!("--regid={}", group.trim()), "--clear-groups".to_owned()];
                command.args(user).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.folder.path());
        command
    }

    /// Starts the server; tries again while leftovers of its previous process prevent the start.
    pub async fn serve(&mut self) {
        self.child = None;
        within(20, async {
            loop {
                let (port, data) = (self.port.to_string(), self.data());
                let mut postgres = self.command("postgres");
                let postgres = postgres.args(["-D", &data, "-p", &port, "-c", "listen_addresses=127.0.0.1"]);
                let postgres = postgres.args(["-c", "unix_socket_directories="]);
                let mut child = KillOnDrop(postgres.stderr(Stdio::null()).spawn().unwrap());
                if child.accepts_connections(&self.address()).await {
                    self.child = Some(child);
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    /// Stops the server immediately, as a crash does, and waits until its process has exited.
    pub async fn stop(&mut self) {
        self.signal("QUIT", false);
        let mut child = self.child.take().unwrap();
        within(10, async {
            while child.0.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("postgres://signet@{}/postgres", self.address())
    }

    /// Sends a signal to the main process of the server, and if `to_all` to its child processes, too.
    pub fn signal(&self, name: &str, to_all: bool) {
        let server = self.child.as_ref().unwrap().0.id();
        let mut pids = vec![server];
        if to_all {
            let processes =
                fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
            pids.extend(processes.filter_map(|name| name.parse::<u32>().ok()).filter(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                status.contains(&format!("\nPPid:\t{server}\n"))
            }));
        }
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        let kill = format!("kill -{name} {}", pids.join(" "));
        // A process may have exited meanwhile.
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap();
    }
}

impl Drop for OwnPostgres {
    /// Stops the server so that it releases its shared memory, which a killed server does not. After two seconds it is
    /// killed.
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal("QUIT", false);
        }
        if let Some(child) = &mut self.child {
            for _ in 0..100 {
                if !matches!(child.0.try_wait(), Ok(None)) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

//! The program as an operator runs it: a process, its output and its exit code.

use super::Endpoint;
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpStream, time::sleep};

/// Settings with which a password hash costs almost nothing.
pub const CHEAP_HASHES: [(&str, &str); 2] = [("PASSWORDS__MEMORY_KIB", "8"), ("PASSWORDS__ITERATIONS", "1")];

pub fn signet(folder: &Path, environment: &[(&str, &str)]) -> Command {
    // Gives the program its own session, as an init system does: Linux divides CPU time between sessions (autogroup).
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_signet"));
    command.current_dir(folder).env_clear().envs(environment.iter().copied());
    command
}

/// Runs a command to its end with this standard input.
pub fn run(folder: &Path, environment: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut command = signet(folder, environment);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may have exited already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A service in a process of its own.
pub struct Service {
    pub child: KillOnDrop,
    /// The output up to the line that says how to stop it.
    pub welcome: String,
    endpoint: Endpoint,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Deref for Service {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Service {
    /// Starts `signet` with this environment, on a free port.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = signet(folder, environment)
            .env("SIGNET__SERVER__BIND", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            assert_ne!(output.read_line(&mut welcome).unwrap(), 0, "the service ended: {welcome}");
        }
        // Reads the log continuously: the service drops log lines when the pipe is full.
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            output.lines().for_each(|line| lines.lock().unwrap().push_str(&(line.unwrap() + "\n")));
        });
        let address = welcome.split("listening on http://").nth(1).unwrap().lines().next().unwrap();
        let endpoint = Endpoint::without_keep_alive(address.parse().unwrap());
        Self { child: KillOnDrop(child), welcome, endpoint, log, reader }
    }

    /// Starts `signet` on this database, which it migrates, without rate limits and with the log level `warn`. The
    /// names of `settings` omit the prefix `SIGNET__`.
    pub fn with_database(folder: &Path, url: &str, settings: &[(&str, &str)]) -> Self {
        let defaults = [
            ("DATABASE__URL", url),
            ("DATABASE__MIGRATE_ON_START", "true"),
            ("RATE_LIMIT__ENABLED", "false"),
            ("TELEMETRY__LOG", "warn"),
        ];
        let pairs = defaults.iter().chain(settings);
        let environment: Vec<_> = pairs.map(|(name, value)| (format!("SIGNET__{name}"), *value)).collect();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        Self::start(folder, &environment)
    }

    /// Ends the service and returns what it logged after the welcome.
    pub fn log(self) -> String {
        let Self { child, reader, log, .. } = self;
        drop(child);
        reader.join().unwrap();
        let log = log.lock().unwrap();
        log.clone()
    }

    pub fn has_logged(&self, text: &str) -> bool {
        self.welcome.contains(text) || self.log.lock().unwrap().contains(text)
    }

    pub fn send_signal(&self, name: &str) {
        self.child.send_signal(name);
    }

    /// Sends a signal, waits until the process exits, and returns the exit code.
    pub fn end_with(&mut self, signal: &str) -> Option<i32> {
        self.child.end_with(signal)
    }

    /// The CPU time that the service has used, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// A size in `/proc/PID/status`, in KiB: `VmRSS` is the resident memory, `VmHWM` its maximum so far.
    pub fn memory_kib(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// A process that is killed when this value is dropped.
pub struct KillOnDrop(pub Child);

impl KillOnDrop {
    /// Uses the shell's built-in `kill`, because the program `kill` may be missing.
    pub fn send_signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Sends a signal, waits until the process exits, and returns the exit code.
    pub fn end_with(&mut self, signal: &str) -> Option<i32> {
        self.send_signal(signal);
        self.0.wait().unwrap().code()
    }

    /// Waits until the process accepts connections at `address`; `false` if it exits first.
    pub async fn accepts_connections(&mut self, address: &str) -> bool {
        while self.0.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now; another process may take it before the test uses it.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Finds a program on the `PATH` or in `/usr/sbin`, where Debian installs some. If there is none, prints that the test
/// is skipped.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let program = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if program.is_none() {
        println!("skipped: {name} is not installed");
    }
    program
}

//! The program as an operator runs it: a process, its output and its exit code.

use super::{Actor, actor::http_client};
use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

pub fn signet(folder: &Path, environment: &[(&str, &str)]) -> Command {
    // In a session of its own, as a service is: Linux shares the cores out among sessions (autogroup).
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_signet"));
    command.current_dir(folder).env_clear().envs(environment.iter().copied());
    command
}

/// Runs a command to its end, with this on its standard input.
pub fn run(folder: &Path, environment: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut command = signet(folder, environment);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A service in a process of its own, with nothing but what `cargo run` gives it.
pub struct Service {
    pub child: Killed,
    pub address: SocketAddr,
    pub welcome: String,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Service {
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = signet(folder, environment)
            .env("SIGNET__SERVER__BIND", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            assert_ne!(output.read_line(&mut welcome).unwrap(), 0, "it ended: {welcome}");
        }
        // Whoever writes to a pipe that nobody reads waits for ever.
        let log = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            output.lines().for_each(|line| told.lock().unwrap().push_str(&(line.unwrap() + "\n")));
        });
        let address = welcome.split("listening on http://").nth(1).unwrap().lines().next().unwrap();
        let address = address.parse().unwrap();
        Self { child: Killed(child), address, welcome, log, reader }
    }

    pub fn anon(&self) -> Actor {
        Actor::new(http_client(), self.address, None)
    }

    pub fn bearer(&self, token: &str) -> Actor {
        Actor::new(http_client(), self.address, Some(token.to_owned()))
    }

    /// What was logged since the welcome, when it has ended.
    pub fn log(self) -> String {
        let Self { child, reader, log, .. } = self;
        drop(child);
        reader.join().unwrap();
        let log = log.lock().unwrap();
        log.clone()
    }

    /// Whether this was logged.
    pub fn said(&self, what: &str) -> bool {
        self.welcome.contains(what) || self.log.lock().unwrap().contains(what)
    }

    pub fn kill(&self, name: &str) {
        send_signal(&self.child.0, name);
    }

    pub fn hang_up(&self) {
        self.kill("HUP");
    }

    /// Sends a signal and waits for the end.
    pub fn signal(&mut self, name: &str) -> Option<i32> {
        self.kill(name);
        self.child.0.wait().unwrap().code()
    }
}

/// `kill` is built into every shell; as a program it may be missing.
pub fn send_signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// A process that does not outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

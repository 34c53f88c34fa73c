//! A server process of a test: what it printed, and its end.
//!
//! What it guarantees: the process ends when the value is dropped; standard output is read all
//! the time, so that a server never blocks on a full pipe.
//! What it does not: it restarts nothing.
//! On failure: it panics with the process's output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to say that it is ready, or to stop.
///
/// A debug build on a busy machine with two cores is slow; a healthy one needs a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
}

/// What a server left when it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

impl Process {
    /// Starts `command` and reads its output in the background.
    pub fn start(command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            read_lines(output, log.clone(), Some(sender.clone()));
        }
        if let Some(output) = child.stderr.take() {
            read_lines(output, log.clone(), Some(sender));
        }
        Process { child, lines, log }
    }

    /// Waits for a line of its output that `wanted` turns into a value.
    pub fn wait_for<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let found = self.wait_for_or_end(wanted);
        found.unwrap_or_else(|| panic!("the server did not get ready:\n{}", self.log()))
    }

    /// The same; `None` where it ends instead.
    pub fn wait_for_or_end<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(value) = wanted(&line) {
                        return Some(value);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the server neither got ready nor ended:\n{}", self.log())
                }
            }
        }
    }

    /// Everything it printed until now.
    pub fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Most bytes of memory it ever held (Linux).
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.unwrap_or_else(|| panic!("{path} states no VmHWM")) * 1024
    }

    /// Whether it is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop (`signal` is `TERM`, `INT`, …) and waits for its end.
    pub fn stop(mut self, signal: &str) -> Ended {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        // Both of its streams close when it ends.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{} does not end", self.id()),
            }
        }
        let status = self.child.wait().unwrap_or_else(|error| panic!("cannot wait: {error}"));
        Ended { status, log: self.log() }
    }

    /// Ends it at once, as a power cut would (`SIGKILL`).
    pub fn kill(mut self) {
        self.end();
    }

    fn signal(&self, signal: &str) {
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to {}", self.id());
    }

    fn end(&mut self) {
        // Both fail only when it has ended already, which is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_lines(
    output: impl Read + Send + 'static,
    log: Arc<Mutex<String>>,
    sender: Option<mpsc::Sender<String>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(mut log) = log.lock() {
                log.push_str(&line);
                log.push('\n');
            }
            if let Some(sender) = &sender {
                // Nobody listens any more once the server is ready.
                drop(sender.send(line));
            }
        }
    });
}

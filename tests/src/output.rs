//! Running a program to its end within a time, and what it printed.
//!
//! What it guarantees: the program ends, by itself or by `SIGKILL` after its time.
//! What it does not: it judges nothing but, in [`Output::expect_success`], the exit status.
//! On failure: it panics with both streams.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The standard output of a program that must have succeeded.
    pub fn expect_success(self) -> String {
        assert!(self.success, "failed:\n{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command`, feeding it `input`, for at most `timeout`.
pub fn run(command: &mut Command, input: &str, timeout: Duration) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends early closes its end; what it printed tells why.
        drop(pipe.write_all(input.as_bytes()));
    }
    // Both streams close when the program ends.
    let late = stdout.recv_timeout(timeout);
    let Ok(stdout) = late else {
        drop(child.kill());
        drop(child.wait());
        let stderr = stderr.recv_timeout(timeout).unwrap_or_default();
        panic!("{command:?} did not end within {timeout:?}: {stderr}");
    };
    let stderr = stderr.recv_timeout(timeout).unwrap_or_default();
    let success = child.wait().is_ok_and(|status| status.success());
    Output { success, stdout, stderr }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            drop(stream.read_to_end(&mut bytes));
        }
        drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}

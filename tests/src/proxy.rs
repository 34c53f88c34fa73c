//! A way to the S3 service that can fail as real ones do.
//!
//! What it is: an HTTP proxy of one request a connection; each request is read whole, then treated
//! as [`Mode`] says at that moment.
//! What it guarantees: a new mode holds for every request that was not answered yet.
//! What it does not: it speaks as much HTTP as the client under test, and no more.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// The connection is closed without an answer, and nothing was done.
    Refuse,
    /// Answered after this time.
    Slow(Duration),
    /// Not answered until there is another mode.
    Hold,
    /// The same for commits of tables alone.
    HoldCommits,
    /// `503 SlowDown`, and nothing was done.
    Unavailable,
    /// `503` for so many requests, then like [`Mode::Pass`].
    UnavailableTimes(u32),
    /// `404 NoSuchBucket`.
    NoBucket,
    /// What is stored under a name for the first time is stored, and answered `503`.
    LoseFirstAnswers,
    /// The service does not know `If-None-Match`.
    Unconditional,
}

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    service: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    stopped: bool,
    lost: HashSet<String>,
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Proxy {
    pub fn start(service: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let state = State { mode: Mode::Pass, stopped: false, lost: HashSet::new() };
        let shared =
            Arc::new(Shared { service, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.state().stopped {
                    return;
                }
                let shared = accepting.clone();
                // A client that went away is no failure of the test.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Proxy { address, shared }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.state().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.stopped = true;
            state.mode = Mode::Refuse;
        }
        self.shared.changed.notify_all();
        // Wakes the one that accepts, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(mut request) = Request::read(&mut client)? else { return Ok(()) };
        match self.decide(&request) {
            Mode::Refuse | Mode::Hold | Mode::HoldCommits => Ok(()),
            Mode::Unavailable | Mode::UnavailableTimes(_) => {
                refuse(&mut client, "503 Slow Down", "SlowDown")
            }
            Mode::NoBucket => {
                let code = if request.head.starts_with("HEAD ") { "" } else { "NoSuchBucket" };
                refuse(&mut client, "404 Not Found", code)
            }
            Mode::LoseFirstAnswers => {
                self.forward(&request)?.read_to_end(&mut Vec::new())?;
                refuse(&mut client, "503 Slow Down", "SlowDown")
            }
            mode @ (Mode::Pass | Mode::Slow(_) | Mode::Unconditional) => {
                if mode == Mode::Unconditional {
                    request.remove("if-none-match");
                }
                io::copy(&mut self.forward(&request)?, &mut client).map(drop)
            }
        }
    }

    /// What is done with `request`; waits where the mode is to wait.
    fn decide(&self, request: &Request) -> Mode {
        let arrived = Instant::now();
        let mut state = self.state();
        loop {
            match state.mode {
                Mode::HoldCommits if !request.is_commit() => return Mode::Pass,
                Mode::Hold | Mode::HoldCommits => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Mode::Slow(delay) => {
                    let Some(left) = delay.checked_sub(arrived.elapsed()) else {
                        return Mode::Pass;
                    };
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Mode::UnavailableTimes(0) => return Mode::Pass,
                Mode::UnavailableTimes(left) => {
                    state.mode = Mode::UnavailableTimes(left - 1);
                    return Mode::Unavailable;
                }
                Mode::LoseFirstAnswers => {
                    let first = request.head.starts_with("PUT ")
                        && state.lost.insert(request.target().to_owned());
                    return if first { Mode::LoseFirstAnswers } else { Mode::Pass };
                }
                mode => return mode,
            }
        }
    }

    fn forward(&self, request: &Request) -> io::Result<TcpStream> {
        let mut service = TcpStream::connect(self.service)?;
        service.write_all(request.head.as_bytes())?;
        service.write_all(&request.body)?;
        Ok(service)
    }
}

impl Request {
    fn read(client: &mut TcpStream) -> io::Result<Option<Request>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 65_536];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            match client.read(&mut chunk)? {
                0 => return Ok(None),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        };
        let mut body = bytes.split_off(end);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let mut request = Request { head, body: Vec::new() };
        let length = request.header("content-length").and_then(|it| it.parse().ok());
        let length: usize = length.unwrap_or_default();
        while body.len() < length {
            match client.read(&mut chunk)? {
                0 => return Ok(None),
                more => body.extend_from_slice(&chunk[..more]),
            }
        }
        request.body = body;
        request.remove("connection");
        let line = request.head.find("\r\n").map_or(0, |at| at + 2);
        request.head.insert_str(line, "Connection: close\r\n");
        Ok(Some(request))
    }

    fn is_commit(&self) -> bool {
        self.head.starts_with("PUT ") && self.target().contains("/_delta_log/")
    }

    /// The path, with the part's number where it is one of an upload.
    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = found.filter(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).next()
    }

    fn remove(&mut self, name: &str) {
        let is =
            |line: &str| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
        let kept: Vec<&str> = self.head.split("\r\n").filter(|line| !is(line)).collect();
        self.head = kept.join("\r\n");
    }
}

fn refuse(client: &mut TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body = match code {
        "" => String::new(),
        code => format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    client.write_all(format!("{head}Content-Type: application/xml\r\n\r\n{body}").as_bytes())
}

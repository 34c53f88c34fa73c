//! What a server asks of the system, as `strace` sees it: which files it syncs and names, and when
//! it tells its clients.
//!
//! What it guarantees: events are in the order in which the system was done with them, whatever
//! thread asked.
//! What it does not: it sees a sync being asked for; whether the disk obeys is the disk's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the trace may take to be written once the server has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that a server did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file's content, or a folder's names, were put on the disk.
    Synced(PathBuf),
    /// A file got a name, beside or instead of another.
    Named { from: PathBuf, to: PathBuf },
    /// A message went out that has this in it.
    Told(String),
}

/// `command` with every sync, name and message of it and its threads written to `file`. The process
/// that is started is the one of `command`.
pub fn traced(command: &Command, file: &Path) -> Command {
    let mut traced = Command::new("strace");
    let calls = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,write,writev,sendto";
    traced.args(["-D", "-f", "-qq", "-y", "-s", "256", "-e", calls, "-o"]).arg(file);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// Waits until the trace of a server that has ended is whole.
pub fn events(file: &Path, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read(file).unwrap_or_default();
        let events = parsed(&String::from_utf8_lossy(&text));
        if events.iter().any(&is_last) {
            return events;
        }
        assert!(Instant::now() < deadline, "the trace does not end: {} events", events.len());
        std::thread::yield_now();
    }
}

fn parsed(text: &str) -> Vec<Event> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(call) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, call.to_owned());
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            let whole = begun.remove(thread).map(|first| first + rest);
            events.extend(whole.as_deref().and_then(event));
        } else {
            events.extend(event(call));
        }
    }
    events
}

/// A call that succeeded.
fn event(call: &str) -> Option<Event> {
    let (asked, result) = call.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let (name, arguments) = asked.split_once('(')?;
    match name {
        "fsync" | "fdatasync" => {
            let (_, path) = arguments.split_once('<')?;
            Some(Event::Synced(path.rsplit_once('>')?.0.into()))
        }
        "write" | "writev" | "sendto" => Some(Event::Told(arguments.to_owned())),
        _ => {
            let mut quoted = arguments.split('"').skip(1).step_by(2);
            Some(Event::Named { from: quoted.next()?.into(), to: quoted.next()?.into() })
        }
    }
}

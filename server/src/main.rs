//! The binary `kho`: the command line, the process's own set-up, and its end.
//!
//! What it guarantees: standard output of a server gets the `ready` line (and the demo's tour),
//! nothing else, and that of a command its answer;
//! a failure is one line on standard error and a non-zero exit; SIGTERM and SIGINT stop the server
//! as [`Server::stop`] says, a second one at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use kho_catalog::audit::{Anchor, PublicKey, Verified};
use kho_catalog::error::{Error, Kind, Result};
use kho_server::config::{self, Config};
use kho_server::demo;
use kho_server::{Server, keys, ledger, observe};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The system's allocator keeps what one thread freed for that thread alone: a large answer, made by
/// one and sent by another, left hundreds of megabytes behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The stack of each worker thread; only what is used of it takes memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// How long the process waits for its threads once the server has stopped.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A governed lakehouse: versioned Delta tables over the PostgreSQL wire.
#[derive(Parser)]
#[command(name = "kho", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start; the first start makes the warehouse, a certificate and the role admin
    Serve {
        /// The config file [default: kho.toml, if it exists]
        #[arg(long)]
        config: Option<PathBuf>,
        /// The warehouse's root: a directory or a URL; above the config's `data`
        #[arg(long, value_name = "DIR|URL")]
        data: Option<String>,
    },
    /// Look at the ledger
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Look at the warehouse's keys, and replace them
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Serve a small invented city with users and something to try
    Demo {
        /// The config file [default: kho.toml, if it exists]
        #[arg(long)]
        config: Option<PathBuf>,
        /// Where the demo lives; used again if it holds one
        #[arg(long, value_name = "DIR", default_value = "./kho-demo")]
        data: PathBuf,
        /// Build it anew, dropping one that is there
        #[arg(long)]
        fresh: bool,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Find any record that was changed, taken out or cut off; needs nothing but the files
    Verify {
        /// The config file [default: kho.toml, if it exists]
        #[arg(long)]
        config: Option<PathBuf>,
        /// The warehouse's root: a directory or a URL; above the config's `data`
        #[arg(long, value_name = "DIR|URL")]
        data: Option<String>,
        /// The key that the ledger must be signed by [default: those the catalog names]
        #[arg(long, value_name = "PUBKEY")]
        key: Option<PublicKey>,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Print the public key that the ledger is verified by
    Show {
        /// The config file [default: kho.toml, if it exists]
        #[arg(long)]
        config: Option<PathBuf>,
        /// The warehouse's root: a directory or a URL; above the config's `data`
        #[arg(long, value_name = "DIR|URL")]
        data: Option<String>,
    },
    /// Sign the ledger with a new key from the servers' next start on, and print its public key; what
    /// was signed before is verified by either
    Rotate {
        /// The config file [default: kho.toml, if it exists]
        #[arg(long)]
        config: Option<PathBuf>,
        /// The warehouse's root: a directory or a URL; above the config's `data`
        #[arg(long, value_name = "DIR|URL")]
        data: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kho: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    // Two providers are linked in; without a choice rustls refuses to work.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Error::internal("a crypto provider was installed before"))?;
    let file = match &command {
        Command::Serve { config, .. }
        | Command::Demo { config, .. }
        | Command::Audit { command: AuditCommand::Verify { config, .. } }
        | Command::Keys {
            command: KeysCommand::Show { config, .. } | KeysCommand::Rotate { config, .. },
        } => config.as_deref(),
    };
    let config = Config::load(file, config::environment()?)?;
    observe::start_log(&config.log)?;
    // Parsing and planning descend with the statement's nesting; the default of 2 MiB is too little.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::new()?;
        match command {
            Command::Audit { command: AuditCommand::Verify { data, key, .. } } => {
                let config = Config { data: data.unwrap_or(config.data), ..config };
                tokio::select! {
                    biased;
                    () = signals.next() => Ok(()),
                    verified = ledger::verify(&config, key.as_ref()) => {
                        say(&summary(&verified?));
                        Ok(())
                    }
                }
            }
            Command::Keys { command } => {
                say(&public_key(config, command).await?);
                Ok(())
            }
            Command::Serve { data, .. } => {
                let config = Config { data: data.unwrap_or(config.data), ..config };
                tokio::select! {
                    biased;
                    () = signals.next() => Ok(()),
                    server = kho_server::start(config) => {
                        let server = server?;
                        say(&server.ready_line());
                        until_end(server, &mut signals).await
                    }
                }
            }
            Command::Demo { data, fresh, .. } => {
                tokio::select! {
                    biased;
                    () = signals.next() => Ok(()),
                    demo = demo::start(config, &data, fresh) => {
                        let demo = demo?;
                        say(&demo.guide);
                        say(&demo.server.ready_line());
                        until_end(demo.server, &mut signals).await
                    }
                }
            }
        }
    });
    // Planning that nobody waits for any more cannot be stopped at once, and is not waited for.
    runtime.shutdown_timeout(LAST_MOMENT);
    ended
}

/// The public key of the warehouse's ledger, after what is to be done about it.
async fn public_key(config: Config, command: KeysCommand) -> Result<String> {
    let (data, rotates) = match command {
        KeysCommand::Show { data, .. } => (data, false),
        KeysCommand::Rotate { data, .. } => (data, true),
    };
    let config = Config { data: data.unwrap_or(config.data), ..config };
    let key = match rotates {
        true => keys::rotate(&config).await?,
        false => {
            config.check()?;
            keys::load(&config)?.public()
        }
    };
    Ok(key.to_string())
}

/// What was found whole, in lines.
fn summary(verified: &Verified) -> String {
    let Verified { servers, records, erased, lost, anchors } = verified;
    let mut lines = vec![format!(
        "the ledger is whole: {records} records of {servers} servers; {erased} bodies are erased"
    )];
    for (server, first, last) in lost {
        lines.push(format!("lost with its disk: records {first} to {last} of server {server}"));
    }
    for anchor in anchors {
        let Anchor { server, links, head, time_ms, .. } = anchor;
        lines
            .push(format!("server {server}: {links} records signed for at {time_ms}, head {head}"));
    }
    lines.join("\n")
}

/// Serves until a signal or a failure, then stops.
async fn until_end(server: Server, signals: &mut Signals) -> Result<()> {
    let failed = tokio::select! {
        () = signals.next() => false,
        () = server.failed() => true,
    };
    tracing::info!("stopping");
    tokio::select! {
        biased;
        stopped = server.stop() => stopped?,
        () = signals.next() => {
            return Err(Error::new(Kind::AdminShutdown, "stopped at once by a second signal"));
        }
    }
    match failed {
        true => Err(Error::internal("a part of the server ended; the log says which")),
        false => Ok(()),
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[expect(clippy::print_stdout, reason = "standard output is how a script learns that it is ready")]
fn say(text: &str) {
    println!("{text}");
}

/// The message, and what more is known, without a line break.
fn in_one_line(error: &Error) -> String {
    let more = error.detail().into_iter().chain(error.hint());
    let text = more.fold(error.message().to_owned(), |text, more| {
        format!("{}. {more}", text.trim_end_matches('.'))
    });
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

//! From an accepted socket to a client that is known: encryption, startup packet, login.
//!
//! What it guarantees: every failure ends the connection, and nothing that was sent after what
//! failed is looked at; plain text is served to this machine only; a TLS handshake that fails ends
//! the connection; nothing received before encryption is used after it.
//! What it does not: it opens no session.
//! On failure: [`Stop::Fatal`] with what the client is to be told, or [`Stop::Gone`].

use std::io::Cursor;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kho_catalog::error::{Error, Kind};
use kho_sql::session::Credential;
use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::authenticate::certificate::Certificate;
use crate::authenticate::{Attempt, scram};
use crate::pgwire::Shared;
use crate::pgwire::frontend::{Frame, sasl_initial};
use crate::pgwire::startup::{self, NEWEST_MINOR, Packet, Startup, read_packet};
use crate::pgwire::wire::{Reader, Stop, Wire, Writer};

/// The one database there is.
pub const DATABASE: &str = "kho";
/// The most a message may have before the login is done.
pub const LOGIN_MESSAGE_BYTES: usize = 16 * 1024;

const ALPN: &[u8] = b"postgresql";
/// The first byte of a TLS handshake; as the first byte of a length it would be far too long.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether the bytes of a connection can be read on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    Plain,
    Encrypted,
}

/// How the bytes of a connection travel.
struct Channel {
    privacy: Privacy,
    /// What the client came with, which the handshake has verified.
    certificate: Option<Certificate>,
}

/// Brings a connection to the point where its client is known; `Gone` where it was one to cancel a
/// statement, which is done then.
pub async fn greet(
    wire: &mut Wire,
    shared: &Shared,
    peer: SocketAddr,
) -> Result<(Startup, Credential), Stop> {
    let (startup, channel) = negotiate(wire, shared).await?;
    check(&startup, channel.privacy, peer).map_err(Stop::Fatal)?;
    let (_, tell) = startup.negotiate();
    if tell {
        let newest = (3 << 16) | i32::from(NEWEST_MINOR);
        wire.put(&NegotiateProtocolVersion::new(newest, startup.unknown_options.clone()))?;
    }
    let credential = log_in(wire, shared, &startup, &channel, peer).await?;
    Ok((startup, credential))
}

/// Settles encryption and reads the startup packet.
async fn negotiate(wire: &mut Wire, shared: &Shared) -> Result<(Startup, Channel), Stop> {
    let mut privacy = Privacy::Plain;
    let mut certificate = None;
    if starts_tls(wire).await? {
        let protocol;
        (protocol, certificate) = encrypt(wire, shared).await?;
        if protocol.as_deref() != Some(ALPN) {
            return Err(Stop::Fatal(Error::new(
                Kind::ProtocolViolation,
                "received direct SSL connection request without ALPN protocol negotiation extension",
            )));
        }
        privacy = Privacy::Encrypted;
    }
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        let packet = read_packet(wire.directions().0).await.map_err(Stop::Fatal)?;
        match packet.ok_or(Stop::Gone)? {
            Packet::SslRequest if privacy == Privacy::Plain && !asked_ssl => {
                asked_ssl = true;
                if shared.tls.is_some() {
                    say(wire, b"S").await?;
                    (_, certificate) = encrypt(wire, shared).await?;
                    privacy = Privacy::Encrypted;
                } else {
                    say(wire, b"N").await?;
                }
            }
            Packet::GssRequest if privacy == Privacy::Plain && !asked_gss => {
                asked_gss = true;
                say(wire, b"N").await?;
            }
            Packet::SslRequest | Packet::GssRequest => {
                return Err(Stop::Fatal(Error::new(
                    Kind::ProtocolViolation,
                    "encryption can be asked for once, before the startup packet",
                )));
            }
            Packet::Cancel { process_id, secret } => {
                shared.registry.cancel(process_id, &secret);
                return Err(Stop::Gone);
            }
            Packet::Startup(startup) => return Ok((startup, Channel { privacy, certificate })),
        }
    }
}

/// Whether the client begins with a TLS handshake (PostgreSQL 17's `sslnegotiation=direct`); the
/// byte that was read to find out is put back.
async fn starts_tls(wire: &mut Wire) -> Result<bool, Stop> {
    let (reader, _) = wire.directions();
    let first = reader.read_u8().await?;
    let rest = std::mem::replace(reader, Box::new(tokio::io::empty()));
    *reader = Box::new(Cursor::new([first]).chain(rest));
    Ok(first == TLS_HANDSHAKE)
}

async fn say(wire: &mut Wire, answer: &[u8]) -> Result<(), Stop> {
    let (_, writer) = wire.directions();
    writer.write_all(answer).await?;
    Ok(writer.flush().await?)
}

/// Puts TLS between the wire and the socket; gives the ALPN protocol, and the client's certificate.
async fn encrypt(
    wire: &mut Wire,
    shared: &Shared,
) -> Result<(Option<Vec<u8>>, Option<Certificate>), Stop> {
    let tls = shared.tls.as_ref().ok_or(Stop::Gone)?;
    let (reader, writer) = wire.directions();
    let plain_reader: Reader = std::mem::replace(reader, Box::new(tokio::io::empty()));
    let plain_writer: Writer = std::mem::replace(writer, Box::new(tokio::io::sink()));
    let acceptor = tls.acceptor.current();
    let stream = acceptor.accept(tokio::io::join(plain_reader, plain_writer)).await?;
    let session = stream.get_ref().1;
    let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.and_then(|it| Certificate::read(it));
    let (encrypted_reader, encrypted_writer) = tokio::io::split(stream);
    (*reader, *writer) = (Box::new(encrypted_reader), Box::new(encrypted_writer));
    Ok((protocol, certificate))
}

fn check(startup: &Startup, privacy: Privacy, peer: SocketAddr) -> Result<(), Error> {
    if privacy == Privacy::Plain && !peer.ip().to_canonical().is_loopback() {
        return Err(Error::new(
            Kind::InvalidAuthorization,
            "connections without encryption are accepted from this machine only",
        )
        .with_hint("Connect with sslmode=require."));
    }
    match startup.database.as_deref() {
        None | Some(DATABASE) => Ok(()),
        Some(other) => {
            Err(Error::new(Kind::UndefinedDatabase, format!("database \"{other}\" does not exist"))
                .with_hint(format!("The database is named {DATABASE}: psql -d {DATABASE}.")))
        }
    }
}

async fn log_in(
    wire: &mut Wire,
    shared: &Shared,
    startup: &Startup,
    channel: &Channel,
    peer: SocketAddr,
) -> Result<Credential, Stop> {
    let authenticator = &shared.entrance.authenticator;
    let binding = match channel.privacy {
        Privacy::Encrypted => shared.tls.as_ref().and_then(|tls| tls.end_point.as_deref()),
        Privacy::Plain => None,
    };
    let attempt =
        authenticator.begin("pgwire", &startup.user, Some(peer)).await.map_err(Stop::Fatal)?;
    if startup.authentication == startup::Authentication::Token {
        wire.put(&Authentication::CleartextPassword)?;
        let frame = answer(wire).await?;
        let token = match password(&frame.body) {
            Ok(text) => text,
            Err(error) => {
                authenticator.refused(&attempt, error.message()).await;
                return Err(Stop::Fatal(error));
            }
        };
        let credential = authenticator.decide_by_token(&attempt, token).await;
        let credential = credential.map_err(Stop::Fatal)?;
        wire.put(&Authentication::Ok)?;
        return Ok(credential);
    }
    if let Some(certificate) = &channel.certificate {
        let given = authenticator.vouched(&attempt, certificate).await.map_err(Stop::Fatal)?;
        if let Some(credential) = given {
            wire.put(&Authentication::Ok)?;
            return Ok(credential);
        }
    }
    let last = match prove(wire, binding, &attempt).await {
        Ok(last) => last,
        Err(Stop::Failed(error) | Stop::Fatal(error)) => {
            authenticator.refused(&attempt, error.message()).await;
            return Err(Stop::Fatal(error));
        }
        // A client that leaves to ask its user for the password is no failure.
        Err(Stop::Gone) => return Err(Stop::Gone),
    };
    let mut credential =
        authenticator.decide(&attempt, last.is_some()).await.map_err(Stop::Fatal)?;
    credential.came_with(channel.certificate.as_ref().map(Certificate::name));
    wire.put(&Authentication::SASLFinal(last.unwrap_or_default().into_bytes().into()))?;
    wire.put(&Authentication::Ok)?;
    Ok(credential)
}

/// What a `PasswordMessage` holds: a text up to its zero byte, which ends the message.
fn password(body: &[u8]) -> Result<&str, Error> {
    let malformed = || Error::new(Kind::ProtocolViolation, "malformed password message");
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let text = text.strip_suffix('\0').ok_or_else(malformed)?;
    if text.contains('\0') { Err(malformed()) } else { Ok(text) }
}

/// The SCRAM exchange; the server's last message if the client's proof is right.
async fn prove(
    wire: &mut Wire,
    binding: Option<&[u8]>,
    attempt: &Attempt,
) -> Result<Option<String>, Stop> {
    wire.put(&Authentication::SASL(scram::mechanisms(binding)))?;
    let first = sasl_initial(answer(wire).await?.body)?;
    let nonce = STANDARD.encode(rand::random::<[u8; 18]>());
    let verifier = attempt.verifier().clone();
    let exchange = scram::begin(&first.mechanism, &first.data, binding, verifier, &nonce)?;
    let server_first = exchange.server_first().as_bytes().to_vec();
    wire.put(&Authentication::SASLContinue(server_first.into()))?;
    Ok(exchange.finish(&answer(wire).await?.body)?)
}

/// The next message, which must be part of the exchange.
async fn answer(wire: &mut Wire) -> Result<Frame, Stop> {
    let frame = wire.next().await?;
    if frame.tag == b'p' {
        return Ok(frame);
    }
    Err(Stop::Fatal(Error::new(
        Kind::ProtocolViolation,
        format!("expected password response, got message type {}", frame.tag),
    )))
}

//! A PostgreSQL client at the level of messages: what it sends is what the test says.
//!
//! What it guarantees: values come as the text the server sent; both protocols, every message in
//! the order it came; no read waits for ever.
//! What it does not: no pooling, no conversion. Real drivers are in `clients/`.
//! On failure: an [`Error`]; a server's own error keeps its SQLSTATE.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;

mod answer;
mod copy;

pub use answer::{Answer, ServerError, rows_of};
pub use copy::copy_in;

/// No answer of a healthy server takes this long, on the slowest machine we test on.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    address: Address,
    database: String,
    role: String,
    password: String,
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    pub fn tcp(address: SocketAddr, database: &str, role: &str, password: &str) -> Target {
        Target::new(Address::Tcp(address), database, role, password)
    }

    pub fn unix(socket: PathBuf, database: &str, role: &str, password: &str) -> Target {
        Target::new(Address::Unix(socket), database, role, password)
    }

    fn new(address: Address, database: &str, role: &str, password: &str) -> Target {
        Target {
            address,
            database: database.to_owned(),
            role: role.to_owned(),
            password: password.to_owned(),
        }
    }
}

/// What can go wrong on the way.
#[derive(Debug)]
pub enum Error {
    /// The server said no.
    Server(Box<ServerError>),
    /// The connection is gone, or its time was over.
    Io(io::Error),
}

impl Error {
    /// The SQLSTATE, when it was the server that refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Server(error) => Some(&error.sqlstate),
            Error::Io(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Server(error) => write!(f, "{error}"),
            Error::Io(error) => write!(f, "connection: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

/// One connection.
pub struct Wire {
    stream: Stream,
    input: BytesMut,
    /// The process id and the secret of this connection, for cancel requests.
    pub key: Option<(i32, i32)>,
    /// What the server reported about itself and the session (`ParameterStatus`), as it came.
    pub parameters: Vec<(String, String)>,
    /// `I` idle, `T` in a transaction block, `E` in a failed one.
    pub status: u8,
    /// Notices since the connection began.
    pub notices: Vec<ServerError>,
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<crate::tls::Secure>),
    Unix(UnixStream),
}

impl Wire {
    /// Connects and logs in.
    pub fn connect(target: &Target) -> Result<Wire, Error> {
        Wire::connect_with(target, &[])
    }

    /// Connects with more startup parameters, as `PGOPTIONS` or a driver would.
    pub fn connect_with(target: &Target, more: &[(&str, &str)]) -> Result<Wire, Error> {
        let mut wire = Wire::open(&target.address)?;
        wire.log_in(target, more)?;
        Ok(wire)
    }

    /// The same inside TLS, with a certificate of the client's own if it has one.
    pub fn connect_securely(
        target: &Target,
        certificate: Option<&crate::tls::Owned>,
        more: &[(&str, &str)],
    ) -> Result<Wire, Error> {
        let mut wire = Wire::open(&target.address)?;
        wire.send(|buffer| {
            frontend::ssl_request(buffer);
            Ok(())
        })?;
        if wire.receive_byte()? != b'S' {
            return Err(unexpected("TLS is not offered"));
        }
        let secure = crate::tls::handshake(wire.into_tcp(), certificate);
        let mut wire = Wire::over(Stream::Tls(Box::new(secure)));
        wire.log_in(target, more)?;
        Ok(wire)
    }

    fn log_in(&mut self, target: &Target, more: &[(&str, &str)]) -> Result<(), Error> {
        let mut parameters = vec![
            ("user", target.role.as_str()),
            ("database", target.database.as_str()),
            ("client_encoding", "UTF8"),
        ];
        parameters.extend_from_slice(more);
        self.send(|buffer| frontend::startup_message(parameters, buffer))?;
        self.authenticate(&target.password)?;
        self.wait_until_ready()
    }

    /// A connection on which nothing was sent yet.
    pub fn raw(address: SocketAddr) -> Result<Wire, Error> {
        Wire::open(&Address::Tcp(address))
    }

    fn open(address: &Address) -> Result<Wire, Error> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                Stream::Unix(stream)
            }
        };
        Ok(Wire::over(stream))
    }

    fn over(stream: Stream) -> Wire {
        Wire {
            stream,
            input: BytesMut::new(),
            key: None,
            parameters: Vec::new(),
            status: b'I',
            notices: Vec::new(),
        }
    }

    /// Runs `statements` through the simple protocol; one answer for each statement in it.
    pub fn simple(&mut self, statements: &str) -> Result<Vec<Answer>, Error> {
        self.send(|buffer| frontend::query(statements, buffer))?;
        self.answers()
    }

    /// Runs one statement through the extended protocol, without parameters, results as text.
    pub fn extended(&mut self, statement: &str) -> Result<Answer, Error> {
        self.extended_with(statement, &[])
    }

    /// The same with parameters, each as the text a driver would send.
    pub fn extended_with(
        &mut self,
        statement: &str,
        parameters: &[Option<&str>],
    ) -> Result<Answer, Error> {
        self.send(|buffer| {
            frontend::parse("", statement, [], buffer)?;
            bind("", "", parameters, buffer)?;
            frontend::describe(b'P', "", buffer)?;
            frontend::execute("", 0, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })?;
        Ok(self.answers()?.pop().unwrap_or_default())
    }

    /// The same with every value of the result in the binary format, as text where it is UTF-8 and
    /// else in hexadecimal.
    pub fn binary(&mut self, statement: &str) -> Result<Answer, Error> {
        self.send(|buffer| {
            frontend::parse("", statement, [], buffer)?;
            let none: [Option<&str>; 0] = [];
            let nothing = |_: &Option<&str>, _: &mut BytesMut| Ok(postgres_protocol::IsNull::Yes);
            let bound = frontend::bind("", "", [], none.iter(), nothing, [1], buffer);
            bound.map_err(|error| match error {
                frontend::BindError::Conversion(error) => io::Error::other(error),
                frontend::BindError::Serialization(error) => error,
            })?;
            frontend::describe(b'P', "", buffer)?;
            frontend::execute("", 0, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })?;
        Ok(self.answers()?.pop().unwrap_or_default())
    }

    /// Every answer until the server is ready again; the first error, if there was one.
    pub fn answers(&mut self) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        let mut current = Answer::default();
        let mut failure = None;
        loop {
            match self.receive()? {
                Message::ReadyForQuery(body) => {
                    self.status = body.status();
                    break;
                }
                Message::ErrorResponse(body) => {
                    let error = ServerError::read(body.fields());
                    // An error that ends the connection is followed by nothing.
                    if error.severity == "FATAL" {
                        return Err(Error::Server(Box::new(error)));
                    }
                    failure.get_or_insert(error);
                    current = Answer::default();
                }
                Message::CopyInResponse(_) => {
                    // Nobody here has data to copy; a test that does speaks the messages itself.
                    self.send(|buffer| frontend::copy_fail("no data", buffer))?;
                }
                message => {
                    if current.take(&message)? {
                        answers.push(std::mem::take(&mut current));
                    }
                }
            }
        }
        match failure {
            Some(error) => Err(Error::Server(Box::new(error))),
            None => Ok(answers),
        }
    }

    /// The rows of the only statement in `statement`.
    pub fn rows(&mut self, statement: &str) -> Vec<Vec<Option<String>>> {
        let answers = self.simple(statement);
        let mut answers = answers.unwrap_or_else(|error| panic!("{statement}: {error}"));
        answers.pop().unwrap_or_default().rows
    }

    /// The only value of the only row of `statement`, as text; NULL as `NULL`.
    pub fn value(&mut self, statement: &str) -> String {
        let rows = self.rows(statement);
        assert_eq!(rows.len(), 1, "{statement}: {rows:?}");
        let value = rows.into_iter().flatten().next().flatten();
        value.unwrap_or_else(|| "NULL".to_owned())
    }

    /// Runs statements that must succeed.
    pub fn run(&mut self, statements: &str) {
        let done = self.simple(statements);
        drop(done.unwrap_or_else(|error| panic!("{statements}: {error}")));
    }

    /// The SQLSTATE of statements that must fail.
    pub fn refusal(&mut self, statements: &str) -> ServerError {
        match self.simple(statements) {
            Err(Error::Server(error)) => *error,
            Err(Error::Io(error)) => panic!("{statements}: {error}"),
            Ok(answers) => panic!("{statements}: was not refused: {answers:?}"),
        }
    }

    /// Sends what `write` puts into the buffer.
    pub fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut buffer = BytesMut::new();
        write(&mut buffer)?;
        self.send_bytes(&buffer)
    }

    /// Sends these bytes and no others.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes)?,
            Stream::Tls(stream) => stream.write_all(bytes)?,
            Stream::Unix(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// The next message that is about the conversation; notices and reports are kept aside.
    pub fn receive(&mut self) -> Result<Message, Error> {
        loop {
            match Message::parse(&mut self.input)? {
                Some(Message::ParameterStatus(body)) => {
                    self.parameters.push((body.name()?.to_owned(), body.value()?.to_owned()));
                }
                Some(Message::NoticeResponse(body)) => {
                    self.notices.push(ServerError::read(body.fields()));
                }
                Some(message) => return Ok(message),
                None => self.fill()?,
            }
        }
    }

    /// The next byte the server sends outside of any message (the answer to `SSLRequest`).
    pub fn receive_byte(&mut self) -> Result<u8, Error> {
        while self.input.is_empty() {
            self.fill()?;
        }
        Ok(self.input.split_to(1)[0])
    }

    /// Reads until the server closes the connection; gives the error it said before, if any.
    pub fn wait_for_close(&mut self) -> Option<ServerError> {
        let mut last = None;
        loop {
            match self.receive() {
                Ok(Message::ErrorResponse(body)) => last = Some(ServerError::read(body.fields())),
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    panic!("the server keeps the connection open")
                }
                Err(_) => return last,
            }
        }
    }

    /// The socket, for what messages cannot say.
    pub fn into_tcp(self) -> TcpStream {
        match self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(_) | Stream::Unix(_) => panic!("this connection is not TCP"),
        }
    }

    /// Reads until the server waits for a statement.
    pub fn wait_until_ready(&mut self) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Message::BackendKeyData(body) => {
                    self.key = Some((body.process_id(), body.secret_key()));
                }
                Message::ReadyForQuery(body) => {
                    self.status = body.status();
                    return Ok(());
                }
                Message::ErrorResponse(body) => return Err(refused(body.fields())),
                _ => {}
            }
        }
    }

    /// SCRAM-SHA-256; or in clear, where the server asks for that.
    pub fn authenticate(&mut self, password: &str) -> Result<(), Error> {
        match self.receive()? {
            Message::AuthenticationSasl(_) => {}
            Message::AuthenticationCleartextPassword => {
                self.send(|buffer| frontend::password_message(password.as_bytes(), buffer))?;
                return match self.receive()? {
                    Message::AuthenticationOk => Ok(()),
                    Message::ErrorResponse(body) => Err(refused(body.fields())),
                    _ => Err(unexpected("no AuthenticationOk")),
                };
            }
            // By what came with the connection itself.
            Message::AuthenticationOk => return Ok(()),
            Message::ErrorResponse(body) => return Err(refused(body.fields())),
            _ => return Err(unexpected("the server does not ask for SCRAM")),
        }
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let first = scram.message().to_vec();
        self.send(|buffer| frontend::sasl_initial_response(SCRAM_SHA_256, &first, buffer))?;
        match self.receive()? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data())?,
            Message::ErrorResponse(body) => return Err(refused(body.fields())),
            _ => return Err(unexpected("SCRAM does not continue")),
        }
        let last = scram.message().to_vec();
        self.send(|buffer| frontend::sasl_response(&last, buffer))?;
        match self.receive()? {
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
            Message::ErrorResponse(body) => return Err(refused(body.fields())),
            _ => return Err(unexpected("SCRAM does not end")),
        }
        match self.receive()? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(unexpected("no AuthenticationOk")),
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        let mut chunk = [0; 65_536];
        let length = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut chunk)?,
            Stream::Tls(stream) => stream.read(&mut chunk)?,
            Stream::Unix(stream) => stream.read(&mut chunk)?,
        };
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.input.extend_from_slice(&chunk[..length]);
        Ok(())
    }
}

/// A `Bind` whose parameters and results are all text.
pub fn bind(
    portal: &str,
    statement: &str,
    parameters: &[Option<&str>],
    buffer: &mut BytesMut,
) -> io::Result<()> {
    let text = |value: &Option<&str>, buffer: &mut BytesMut| match value {
        None => Ok(postgres_protocol::IsNull::Yes),
        Some(value) => {
            buffer.extend_from_slice(value.as_bytes());
            Ok(postgres_protocol::IsNull::No)
        }
    };
    let bound = frontend::bind(portal, statement, [], parameters.iter(), text, [0], buffer);
    bound.map_err(|error| match error {
        frontend::BindError::Conversion(error) => io::Error::other(error),
        frontend::BindError::Serialization(error) => error,
    })
}

fn refused(fields: ErrorFields<'_>) -> Error {
    Error::Server(Box::new(ServerError::read(fields)))
}

fn unexpected(what: &str) -> Error {
    io::Error::new(io::ErrorKind::InvalidData, what).into()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

//! What clients send after startup: from bytes to messages.
//!
//! What it guarantees: a message is decoded from its own bytes alone, never from those that follow;
//! no count or length in it is believed before the bytes are there; text that is not UTF-8 is an
//! error (pgwire's decoder would replace characters, and read past the end).
//! What it does not: it knows no order of messages; the connection does.
//! On failure: [`take_frame`] fails where the stream of messages is lost: the connection must end.
//! [`decode`] fails within one message (`08P01`, `22021`): the next one can be read.

use bytes::{Buf, Bytes, BytesMut};
use kho_catalog::error::{Error, Kind, Result};
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::extendedquery::{Bind, Execute, Flush, Parse, Sync};
use pgwire::messages::simplequery::Query;
use pgwire::messages::terminate::Terminate;

/// One message as it came: its type and its body.
#[derive(Debug)]
pub struct Frame {
    pub tag: u8,
    pub body: Bytes,
}

/// A message of a client that is logged in.
#[derive(Debug)]
pub enum Message {
    Query(Query),
    Parse(Parse),
    Bind(Bind),
    Describe(Target),
    Execute(Execute),
    Close(Target),
    Flush(Flush),
    Sync(Sync),
    FunctionCall,
    CopyData(CopyData),
    CopyDone(CopyDone),
    CopyFail(CopyFail),
    Password,
    Terminate(Terminate),
}

/// What `Describe` and `Close` name; the empty name is the unnamed one.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Statement(String),
    Portal(String),
}

/// How a client answers the server's `AuthenticationSASL`.
#[derive(Debug)]
pub struct SaslInitial {
    pub mechanism: String,
    pub data: Bytes,
}

/// The types of message there are.
const TAGS: &[u8] = b"QPBDECHSFdcfpX";
/// Type and length.
const HEADER_BYTES: usize = 5;

/// Takes the next whole message out of `buffer`; `None` until it is all there.
///
/// # Errors
/// `08P01` for a type or a length that cannot be, `54000` for a message over `limit` bytes. Where
/// the next message starts is not known then.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>> {
    let Some((tag, length)) = header(buffer)? else {
        return Ok(None);
    };
    if length > limit {
        return Err(Error::new(
            Kind::ProgramLimitExceeded,
            format!("message of {length} bytes exceeds the limit of {limit} bytes"),
        ));
    }
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    Ok(Some(Frame { tag, body: buffer.split_to(length).freeze() }))
}

/// Whether the `Execute` that was just taken out of the stream is the only one up to the next
/// `Sync`, as far as `buffer`, what follows it, shows.
pub fn is_alone(buffer: &[u8]) -> bool {
    let mut rest = buffer;
    while let Ok(Some((tag, length))) = header(rest) {
        match tag {
            b'S' => return true,
            b'P' | b'B' | b'D' | b'C' | b'H' => {}
            _ => return false,
        }
        let Some(following) = rest.get(HEADER_BYTES + length..) else {
            return false;
        };
        rest = following;
    }
    false
}

/// Decodes one message.
///
/// # Errors
/// `08P01` where the body is not what its type says, `22021` where text is not UTF-8.
pub fn decode(frame: Frame) -> Result<Message> {
    let mut body = Body(frame.body);
    let message = match frame.tag {
        b'Q' => Message::Query(Query::new(body.text()?)),
        b'P' => Message::Parse(parse(&mut body)?),
        b'B' => Message::Bind(bind(&mut body)?),
        b'D' => Message::Describe(target(&mut body)?),
        b'E' => Message::Execute(Execute::new(body.name()?, body.int32()?)),
        b'C' => Message::Close(target(&mut body)?),
        b'H' => Message::Flush(Flush::new()),
        b'S' => Message::Sync(Sync::new()),
        b'd' => return Ok(Message::CopyData(CopyData::new(body.0))),
        b'c' => Message::CopyDone(CopyDone::new()),
        b'f' => Message::CopyFail(CopyFail::new(body.text()?)),
        b'X' => Message::Terminate(Terminate::new()),
        // What these hold is of no interest: they are refused whole.
        b'F' => return Ok(Message::FunctionCall),
        b'p' => return Ok(Message::Password),
        tag => return Err(unknown(tag)),
    };
    body.end()?;
    Ok(message)
}

/// Decodes the body of a `SASLInitialResponse`.
///
/// # Errors
/// `08P01` where it is none.
pub fn sasl_initial(body: Bytes) -> Result<SaslInitial> {
    let mut body = Body(body);
    let mechanism = body.text()?;
    let data = body.value()?.unwrap_or_default();
    body.end()?;
    Ok(SaslInitial { mechanism, data })
}

fn header(buffer: &[u8]) -> Result<Option<(u8, usize)>> {
    let Some((&tag, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    if !TAGS.contains(&tag) {
        return Err(unknown(tag));
    }
    let Some(length) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    // The length counts itself.
    let length = i32::from_be_bytes(*length)
        .checked_sub(4)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| Error::new(Kind::ProtocolViolation, "invalid message length"))?;
    Ok(Some((tag, length)))
}

fn unknown(tag: u8) -> Error {
    Error::new(Kind::ProtocolViolation, format!("invalid frontend message type {tag}"))
}

fn parse(body: &mut Body) -> Result<Parse> {
    let (name, query) = (body.name()?, body.text()?);
    let count = body.count(4)?;
    let types = (0..count).map(|_| Ok(body.int32()?.cast_unsigned())).collect::<Result<_>>()?;
    Ok(Parse::new(name, query, types))
}

fn bind(body: &mut Body) -> Result<Bind> {
    let (portal, statement) = (body.name()?, body.name()?);
    let count = body.count(2)?;
    let formats = (0..count).map(|_| body.int16()).collect::<Result<_>>()?;
    let count = body.count(4)?;
    let values = (0..count).map(|_| body.value()).collect::<Result<_>>()?;
    let count = body.count(2)?;
    let result_formats = (0..count).map(|_| body.int16()).collect::<Result<_>>()?;
    Ok(Bind::new(portal, statement, formats, values, result_formats))
}

fn target(body: &mut Body) -> Result<Target> {
    let kind = body.bytes(1)?;
    let name = body.text()?;
    match kind.first() {
        Some(b'S') => Ok(Target::Statement(name)),
        Some(b'P') => Ok(Target::Portal(name)),
        _ => Err(Error::new(
            Kind::ProtocolViolation,
            "only a statement (S) or a portal (P) can be described or closed",
        )),
    }
}

/// The rest of a message's body.
struct Body(Bytes);

impl Body {
    fn bytes(&mut self, count: usize) -> Result<Bytes> {
        if self.0.len() < count {
            return Err(broken("insufficient data left in message"));
        }
        Ok(self.0.split_to(count))
    }

    fn int16(&mut self) -> Result<i16> {
        Ok(self.bytes(2)?.get_i16())
    }

    fn int32(&mut self) -> Result<i32> {
        Ok(self.bytes(4)?.get_i32())
    }

    /// A number of elements, of at least `size` bytes each, that can still follow.
    fn count(&mut self, size: usize) -> Result<usize> {
        let count = usize::from(self.int16()?.cast_unsigned());
        if self.0.len() < count * size {
            return Err(broken("insufficient data left in message"));
        }
        Ok(count)
    }

    /// A length and so many bytes; -1 is NULL.
    fn value(&mut self) -> Result<Option<Bytes>> {
        match self.int32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| broken("invalid length of a value in message"))?;
                self.bytes(length).map(Some)
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| broken("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(not_utf8(&text, error)),
        }
    }

    fn name(&mut self) -> Result<Option<String>> {
        Ok(Some(self.text()?).filter(|name| !name.is_empty()))
    }

    fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(broken("invalid message format")) }
    }
}

fn broken(message: &str) -> Error {
    Error::new(Kind::ProtocolViolation, message)
}

fn not_utf8(text: &[u8], error: std::str::Utf8Error) -> Error {
    let from = text.get(error.valid_up_to()..).unwrap_or_default();
    let length = error.error_len().unwrap_or(from.len());
    let bytes: Vec<String> = from.iter().take(length).map(|byte| format!("0x{byte:02x}")).collect();
    Error::new(
        Kind::CharacterNotInRepertoire,
        format!("invalid byte sequence for encoding \"UTF8\": {}", bytes.join(" ")),
    )
}

#[cfg(test)]
mod tests;

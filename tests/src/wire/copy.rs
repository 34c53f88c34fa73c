//! `COPY … FROM STDIN` by a client that sends all of it without waiting.

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::{Error, ServerError, Wire, unexpected};

/// Copies this data, in pieces of `size` bytes; gives the number of rows.
pub fn copy_in(wire: &mut Wire, statement: &str, data: &[u8], size: usize) -> Result<u64, Error> {
    wire.send(|buffer: &mut BytesMut| {
        frontend::query(statement, buffer)?;
        for piece in data.chunks(size) {
            buffer.put_u8(b'd');
            buffer.put_i32(i32::try_from(piece.len() + 4).map_err(std::io::Error::other)?);
            buffer.put_slice(piece);
        }
        frontend::copy_done(buffer);
        Ok(())
    })?;
    // `answers` would send a CopyFail of its own.
    let (mut copied, mut failure) = (None, None);
    loop {
        match wire.receive()? {
            Message::CommandComplete(body) => {
                copied = body.tag()?.strip_prefix("COPY ").and_then(|it| it.parse().ok());
            }
            Message::ErrorResponse(body) => {
                let error = ServerError::read(body.fields());
                // An error that ends the connection is followed by nothing.
                if error.severity == "FATAL" {
                    return Err(Error::Server(Box::new(error)));
                }
                failure = Some(error);
            }
            Message::ReadyForQuery(body) => {
                wire.status = body.status();
                break;
            }
            _ => {}
        }
    }
    match failure {
        Some(error) => Err(Error::Server(Box::new(error))),
        None => copied.ok_or_else(|| unexpected("COPY says no number of rows")),
    }
}

//! `COPY … FROM STDIN`: data of the client, from bytes to the write path.
//!
//! What it guarantees: rows may be cut anywhere by messages; the storage's pace is the client's;
//! nothing is visible unless the client said `CopyDone` and the commit went through.
//! What it does not: it decodes no values; `value::copy` does.
//! On failure: the write is dropped; what the client still sends of the data is passed over, up to
//! the next statement (simple) or `Sync` (extended).

use kho_catalog::error::{Error, Kind, Result};
use kho_sql::copy::{CopyFormat, CopyIn, CopyOptions};
use kho_sql::outcome::Tag;
use pgwire::messages::copy::CopyInResponse;
use tokio_util::sync::CancellationToken;

use crate::pgwire::connection::Connection;
use crate::pgwire::frontend::{Message, decode};
use crate::pgwire::value::copy::CopyDecoder;
use crate::pgwire::wire::{Stop, canceled};

/// A message is decoded in parts of this size, so that a large one is not all in memory as rows.
const PART_BYTES: usize = 1024 * 1024;

/// Takes the data of a `COPY` and commits it.
///
/// # Errors
/// What the decoder, the write path or the client says; `57014` when stopped.
pub(super) async fn receive(
    connection: &mut Connection,
    mut copy: CopyIn,
    stop: &CancellationToken,
) -> Result<Tag, Stop> {
    let format = connection.session.value_format();
    let mut decoder = CopyDecoder::try_new(copy.schema(), copy.options(), &format)?;
    let (overall, formats) = formats(copy.options(), copy.schema().fields().len())?;
    let columns = i16::try_from(formats.len()).unwrap_or(i16::MAX);
    connection.wire.put(&CopyInResponse::new(overall, columns, formats))?;
    let (deadline, ended) = (copy.deadline.clone(), connection.session.ended());
    tokio::select! {
        biased;
        fed = feed(connection, &mut copy, &mut decoder, stop) => fed?,
        error = deadline.passed() => return Err(error.into()),
        error = ended => return Err(error.into()),
    }
    // Until it has the table it can be stopped; then it is committed or not, and that takes the time
    // it takes.
    let work = connection.session.finish_copy(&mut copy);
    Ok(connection.wire.attend(stop, work).await??)
}

/// Gives the client's rows to the write path, up to the last one.
async fn feed(
    connection: &mut Connection,
    copy: &mut CopyIn,
    decoder: &mut CopyDecoder,
    stop: &CancellationToken,
) -> Result<(), Stop> {
    while let Some(data) = next_data(connection, stop).await? {
        for part in data.chunks(PART_BYTES) {
            for batch in decoder.push(part)? {
                connection.wire.attend(stop, copy.write(batch)).await??;
            }
        }
    }
    for batch in decoder.finish()? {
        connection.wire.attend(stop, copy.write(batch)).await??;
    }
    Ok(())
}

/// The format of a whole copy and of each of its columns, as the responses state them.
///
/// # Errors
/// `54000` for more columns than the protocol can count.
pub(super) fn formats(options: &CopyOptions, columns: usize) -> Result<(i8, Vec<i16>)> {
    if i16::try_from(columns).is_err() {
        return Err(Error::new(Kind::ProgramLimitExceeded, "too many columns to copy"));
    }
    Ok(match options.format {
        CopyFormat::Text | CopyFormat::Csv => (0, vec![0; columns]),
        CopyFormat::Binary => (1, vec![1; columns]),
    })
}

/// The next data; `None` when the client says that it is all.
async fn next_data(
    connection: &mut Connection,
    stop: &CancellationToken,
) -> Result<Option<bytes::Bytes>, Stop> {
    loop {
        let frame = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(canceled().into()),
            frame = connection.wire.next() => frame?,
        };
        let tag = frame.tag;
        match decode(frame)? {
            Message::CopyData(data) => return Ok(Some(data.data)),
            Message::CopyDone(_) => return Ok(None),
            Message::CopyFail(failure) => {
                return Err(Error::new(
                    Kind::QueryCanceled,
                    format!("COPY from stdin failed: {}", failure.message),
                )
                .into());
            }
            // A client that does not know that this is a COPY has sent these with the statement.
            Message::Flush(_) | Message::Sync(_) => {}
            Message::Terminate(_) => return Err(Stop::Gone),
            _ => {
                return Err(Error::new(
                    Kind::ProtocolViolation,
                    format!("unexpected message type 0x{tag:02X} during COPY from stdin"),
                )
                .into());
            }
        }
    }
}

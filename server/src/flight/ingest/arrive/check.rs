//! What a message of Arrow data says of itself, held against what it is.
//!
//! # Why
//! The decoder takes lengths and offsets at their word: a few bytes that claim to unpack to a
//! terabyte would end the server.

use std::collections::HashMap;
use std::io::Read as _;

use arrow::ipc::{self, CompressionType, MessageHeader};
use arrow_flight::FlightData;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::Held;

use super::no_data;

/// What one message takes, unpacked.
const MESSAGE_BYTES: u64 = 512 * 1024 * 1024;
/// What all dictionaries of a stream take.
const DICTIONARY_BYTES: u64 = 256 * 1024 * 1024;
/// Before the length of a packed buffer, which is -1 where the buffer is as it is.
const PREFIX_BYTES: usize = 8;

/// The messages of one stream so far.
pub(super) struct Checked {
    /// How much each dictionary takes.
    dictionaries: HashMap<i64, u64>,
    /// All of them and the last batch.
    held: Held,
}

impl Checked {
    pub(super) fn new(held: Held) -> Checked {
        Checked { dictionaries: HashMap::new(), held }
    }

    /// The message, where it can be decoded; `None` where it holds nothing to decode.
    pub(super) fn check(&mut self, message: FlightData) -> Result<Option<FlightData>> {
        if message.data_header.is_empty() {
            return match message.data_body.is_empty() {
                true => Ok(None),
                false => Err(no_data("a message has no header")),
            };
        }
        let header = ipc::root_as_message(&message.data_header)
            .map_err(|_| no_data("a message's header is malformed"))?;
        match header.header_type() {
            MessageHeader::RecordBatch => {
                let batch = header.header_as_record_batch();
                let bytes = check_batch(batch.ok_or_else(malformed)?, &message.data_body)?;
                self.hold(bytes)?;
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = header.header_as_dictionary_batch().ok_or_else(malformed)?;
                let batch = dictionary.data().ok_or_else(malformed)?;
                let bytes = check_batch(batch, &message.data_body)?;
                self.keep(dictionary.id(), dictionary.isDelta(), bytes)?;
            }
            _ => {}
        }
        Ok(Some(message))
    }

    fn keep(&mut self, id: i64, adds: bool, bytes: u64) -> Result<()> {
        let before = self.dictionaries.get(&id).copied().filter(|_| adds).unwrap_or_default();
        self.dictionaries.insert(id, before.saturating_add(bytes));
        if self.of_dictionaries() > DICTIONARY_BYTES {
            return Err(too_large("the dictionaries of the load are too large"));
        }
        self.hold(0)
    }

    fn of_dictionaries(&self) -> u64 {
        self.dictionaries.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Holds the dictionaries and a batch of `bytes` in place of the one before.
    fn hold(&self, bytes: u64) -> Result<()> {
        let bytes = self.of_dictionaries().saturating_add(bytes);
        self.held.hold(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

/// How much the batch takes once it is unpacked.
fn check_batch(batch: ipc::RecordBatch<'_>, body: &[u8]) -> Result<u64> {
    if batch.length() < 0 {
        return Err(malformed());
    }
    for node in batch.nodes().iter().flatten() {
        if node.length() < 0 || node.null_count() < 0 || node.null_count() > node.length() {
            return Err(malformed());
        }
    }
    let mut bytes = 0u64;
    for buffer in batch.buffers().iter().flatten() {
        let start = usize::try_from(buffer.offset()).map_err(|_| malformed())?;
        let length = usize::try_from(buffer.length()).map_err(|_| malformed())?;
        let end = start.checked_add(length).ok_or_else(malformed)?;
        let data = body.get(start..end).ok_or_else(malformed)?;
        let unpacked = match batch.compression() {
            Some(by) if !data.is_empty() => {
                unpacked_bytes(data, by.codec(), MESSAGE_BYTES - bytes)?
            }
            _ => data.len() as u64,
        };
        bytes = bytes.saturating_add(unpacked);
        if bytes > MESSAGE_BYTES {
            return Err(too_large("a message of the load is too large"));
        }
    }
    Ok(bytes)
}

fn unpacked_bytes(buffer: &[u8], codec: CompressionType, most: u64) -> Result<u64> {
    let (prefix, packed) = buffer.split_first_chunk::<PREFIX_BYTES>().ok_or_else(malformed)?;
    let stated = match i64::from_le_bytes(*prefix) {
        -1 => return Ok(packed.len() as u64),
        stated => u64::try_from(stated).map_err(|_| malformed())?,
    };
    // The decoder reads such a buffer to its end, however far behind what it states that is.
    if codec == CompressionType::LZ4_FRAME && stated > 0 && stated <= most {
        let frame = lz4_flex::frame::FrameDecoder::new(packed);
        let read = std::io::copy(&mut frame.take(stated.saturating_add(1)), &mut std::io::sink());
        if read.map_err(|_| malformed())? != stated {
            return Err(malformed());
        }
    }
    Ok(stated)
}

fn malformed() -> Error {
    no_data("a message is malformed")
}

fn too_large(message: &str) -> Error {
    Error::new(Kind::ProgramLimitExceeded, message).with_hint("Send smaller batches.")
}

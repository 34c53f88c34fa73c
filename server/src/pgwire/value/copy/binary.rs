//! The frame of binary `COPY` data: the header, and rows as counted, sized values.

use bytes::Buf;
use kho_catalog::error::{Error, Kind, Result};

use super::{BINARY_SIGNATURE, bad_format};

/// What the data holds next.
pub(super) enum Step {
    /// A whole row of so many bytes.
    Row { length: usize },
    /// The trailer, of so many bytes.
    End { length: usize },
    /// A row that is not whole yet, or nothing.
    More,
}

/// The length of the header, if it is whole.
pub(super) fn read_header(data: &[u8], is_all: bool) -> Result<Option<usize>> {
    let signature = data.get(..BINARY_SIGNATURE.len().min(data.len())).unwrap_or_default();
    if !BINARY_SIGNATURE.starts_with(signature) || (is_all && data.len() < BINARY_SIGNATURE.len()) {
        return Err(bad_format("COPY file signature not recognized"));
    }
    let mut rest = data.get(BINARY_SIGNATURE.len()..).unwrap_or_default();
    let incomplete = |message: &str| if is_all { Err(bad_format(message)) } else { Ok(None) };
    let Ok(flags) = rest.try_get_u32() else {
        return incomplete("invalid COPY file header (missing flags)");
    };
    if flags & (1 << 16) != 0 {
        return Err(bad_format("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(bad_format("unrecognized critical flags in COPY file header"));
    }
    let Ok(extension) = rest.try_get_i32() else {
        return incomplete("invalid COPY file header (missing length)");
    };
    let wrong_length = "invalid COPY file header (wrong length)";
    // An extension may be passed over; one that large is none.
    let extension = usize::try_from(extension).ok().filter(|length| *length <= 1 << 20);
    let extension = extension.ok_or_else(|| bad_format(wrong_length))?;
    if rest.len() < extension {
        return incomplete(wrong_length);
    }
    Ok(Some(BINARY_SIGNATURE.len() + 8 + extension))
}

/// Measures the row that `data` begins with.
pub(super) fn read_row(data: &[u8], columns: usize, most_bytes: usize) -> Result<Step> {
    let mut rest = data;
    let Ok(count) = rest.try_get_i16() else { return Ok(Step::More) };
    if count == -1 {
        return Ok(Step::End { length: 2 });
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(bad_format(format!("row field count is {count}, expected {columns}")));
    }
    for _ in 0..columns {
        let length = match rest.try_get_i32() {
            Err(_) => return Ok(Step::More),
            Ok(-1) => continue,
            Ok(length) => usize::try_from(length).map_err(|_| bad_format("invalid field size"))?,
        };
        if length > most_bytes {
            return Err(Error::new(Kind::ProgramLimitExceeded, "a value of the data is too long")
                .with_detail(format!("The limit is {most_bytes} bytes.")));
        }
        if rest.len() < length {
            return Ok(Step::More);
        }
        rest.advance(length);
    }
    Ok(Step::Row { length: data.len() - rest.len() })
}

//! Which row groups may hold one of a few values, by the files' bloom filters.
//!
//! What it is: Parquet's split block filter (parquet-format, `BloomFilter.md`), of which one block
//! of 32 bytes tells about a value. Only that block is read, where the engine reads filters whole:
//! 2 MiB for each full row group.
//! What it guarantees: a row group that holds one of the values is kept, and one that cannot be
//! judged too: without a filter, of another type, with a header that is not understood.

use std::collections::HashSet;
use std::ops::Range;

use datafusion::common::Result as PlanResult;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::scalar::ScalarValue;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::basic::{LogicalType, TimeUnit, Type};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::ColumnDescriptor;
use twox_hash::XxHash64;

/// Beyond so many values a filter is better read whole.
const MOST_VALUES: usize = 16;
const BLOCK_BYTES: u64 = 32;
/// Longer than any header of a filter.
const HEADER_BYTES: u64 = 64;

/// Whether all that `guarantees` say can be looked up here.
pub(super) fn are_few(guarantees: &[LiteralGuarantee]) -> bool {
    guarantees.iter().all(|it| it.literals.len() <= MOST_VALUES)
}

/// For each row group, whether a row in it may fulfil all of `guarantees`.
pub(super) async fn row_groups(
    store: &dyn ObjectStore,
    file: &Path,
    footer: &ParquetMetaData,
    guarantees: &[LiteralGuarantee],
) -> PlanResult<Vec<bool>> {
    let mut kept = vec![true; footer.num_row_groups()];
    for guarantee in guarantees.iter().filter(|it| it.guarantee == Guarantee::In) {
        let Some((leaf, values)) = values(footer, guarantee) else { continue };
        let place = |(group, is_kept): (usize, &bool)| {
            let column =
                footer.row_groups().get(group).filter(|_| *is_kept)?.columns().get(leaf)?;
            let offset = u64::try_from(column.bloom_filter_offset()?).ok()?;
            let length = u64::try_from(column.bloom_filter_length()?).ok()?;
            Some(Filter { group, offset, length })
        };
        let filters: Vec<Filter> = kept.iter().enumerate().filter_map(place).collect();
        for group in without(store, file, &filters, &values).await? {
            if let Some(kept) = kept.get_mut(group) {
                *kept = false;
            }
        }
    }
    Ok(kept)
}

/// Where a row group's filter is: header and bitset.
struct Filter {
    group: usize,
    offset: u64,
    length: u64,
}

/// The row groups whose filter says that none of `values` is in them.
async fn without(
    store: &dyn ObjectStore,
    file: &Path,
    filters: &[Filter],
    values: &[Vec<u8>],
) -> object_store::Result<Vec<usize>> {
    let headers: Vec<Range<u64>> =
        filters.iter().map(|it| it.offset..it.offset + it.length.min(HEADER_BYTES)).collect();
    // What a header says is guessed, so that it and the blocks are mostly one request.
    let guessed: Vec<Option<u64>> = filters.iter().map(|it| likely_bytes(it.length)).collect();
    let of_guess = blocks(filters, &guessed, values);
    let read = store.get_ranges(file, &[headers, of_guess].concat()).await?;
    let (headers, blocks_read) = read.split_at(filters.len().min(read.len()));
    let told: Vec<Option<u64>> = (filters.iter().zip(headers))
        .map(|(filter, header)| bitset_bytes(header, filter.length))
        .collect();
    let blocks = match told == guessed {
        true => blocks_read.to_vec(),
        false => store.get_ranges(file, &blocks(filters, &told, values)).await?,
    };
    let groups = filters.iter().zip(told).filter_map(|(it, bytes)| bytes.map(|_| it.group));
    // The one block of a filter made of it is asked, whichever it was of the whole.
    let may = |(value, block): (&Vec<u8>, &bytes::Bytes)| {
        block.len() as u64 != BLOCK_BYTES || Sbbf::new(block).check(value.as_slice())
    };
    let of_groups = groups.zip(blocks.chunks(values.len().max(1)));
    Ok(of_groups
        .filter(|(_, blocks)| !values.iter().zip(*blocks).any(may))
        .map(|(group, _)| group)
        .collect())
}

/// Where the blocks for `values` are, of filters whose bitsets have these sizes; none of one that has
/// none.
fn blocks(filters: &[Filter], bytes: &[Option<u64>], values: &[Vec<u8>]) -> Vec<Range<u64>> {
    let of = |(filter, bytes): (&Filter, &Option<u64>)| {
        let bytes = (*bytes)?;
        let first = filter.offset + filter.length - bytes;
        let block = move |value: &Vec<u8>| {
            let block = first + block_of(value, bytes / BLOCK_BYTES) * BLOCK_BYTES;
            block..block + BLOCK_BYTES
        };
        Some(values.iter().map(block))
    };
    filters.iter().zip(bytes).filter_map(of).flatten().collect()
}

/// The size of the bitset in a filter of `length` bytes, if it is a power of two, as most writers make
/// it.
fn likely_bytes(length: u64) -> Option<u64> {
    let bytes = 1_u64.checked_shl(length.checked_ilog2()?)?;
    let is_one = bytes >= BLOCK_BYTES && bytes < length && length - bytes <= HEADER_BYTES;
    is_one.then_some(bytes)
}

/// The size of the bitset behind `header`, in a filter of `length` bytes.
///
/// A header is a Thrift structure whose first field, a 32-bit integer, is that size; the three
/// fields behind it can have one value each.
fn bitset_bytes(header: &[u8], length: u64) -> Option<u64> {
    const FIRST_I32: u8 = 0x15;
    let (first, rest) = header.split_first()?;
    if *first != FIRST_I32 {
        return None;
    }
    let mut zigzag = 0_u64;
    for (place, byte) in rest.iter().take(5).enumerate() {
        zigzag |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let bytes = (zigzag & 1 == 0).then_some(zigzag >> 1)?;
            let fits = bytes > 0 && bytes % BLOCK_BYTES == 0 && bytes < length;
            return (fits && length - bytes <= HEADER_BYTES).then_some(bytes);
        }
    }
    None
}

fn block_of(value: &[u8], blocks: u64) -> u64 {
    ((XxHash64::oneshot(0, value) >> 32) * blocks) >> 32
}

/// The column that `guarantee` is about and its values as the filter has them; `None` where a
/// value cannot be told.
pub(super) fn values(
    footer: &ParquetMetaData,
    guarantee: &LiteralGuarantee,
) -> Option<(usize, Vec<Vec<u8>>)> {
    let schema = footer.file_metadata().schema_descr();
    let leaf = (schema.columns().iter()).position(
        |column| matches!(column.path().parts(), [name] if *name == guarantee.column.name),
    )?;
    let column = schema.columns().get(leaf)?;
    let values = guarantee.literals.iter().map(|literal| stored(literal, column));
    Some((leaf, values.collect::<Option<HashSet<_>>>()?.into_iter().collect()))
}

/// The bytes that Parquet's plain encoding has for a value, which are what is hashed.
fn stored(value: &ScalarValue, column: &ColumnDescriptor) -> Option<Vec<u8>> {
    let logical = column.logical_type_ref();
    match (column.physical_type(), value) {
        (Type::INT32, ScalarValue::Int16(Some(it))) => Some(i32::from(*it).to_le_bytes().into()),
        (Type::INT32, ScalarValue::Int32(Some(it)) | ScalarValue::Date32(Some(it))) => {
            Some(it.to_le_bytes().into())
        }
        (Type::INT64, ScalarValue::Int64(Some(it))) => Some(it.to_le_bytes().into()),
        (Type::INT64, ScalarValue::TimestampMicrosecond(Some(it), _)) if matches!(logical, Some(LogicalType::Timestamp(it)) if it.unit == TimeUnit::MICROS) => {
            Some(it.to_le_bytes().into())
        }
        (Type::BYTE_ARRAY, ScalarValue::Utf8(Some(it)) | ScalarValue::Utf8View(Some(it))) => {
            Some(it.as_bytes().into())
        }
        (Type::BYTE_ARRAY, ScalarValue::Binary(Some(it)) | ScalarValue::BinaryView(Some(it))) => {
            Some(it.clone())
        }
        (of, ScalarValue::Decimal128(Some(it), _, scale))
            if i32::from(*scale) == column.type_scale() =>
        {
            decimal(*it, of, column.type_length())
        }
        _ => None,
    }
}

fn decimal(value: i128, of: Type, length: i32) -> Option<Vec<u8>> {
    match of {
        Type::INT32 => i32::try_from(value).ok().map(|it| it.to_le_bytes().into()),
        Type::INT64 => i64::try_from(value).ok().map(|it| it.to_le_bytes().into()),
        Type::FIXED_LEN_BYTE_ARRAY => {
            let bytes = value.to_be_bytes();
            let start = bytes.len().checked_sub(usize::try_from(length).ok()?)?;
            bytes.get(start..).map(Into::into)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

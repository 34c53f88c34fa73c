//! Widths are those of values, however they are stored.

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::ParquetMetaDataReader;

use super::*;

fn footer(batches: &[RecordBatch]) -> ParquetMetaData {
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush().unwrap();
    }
    let file = Bytes::from(writer.into_inner().unwrap());
    ParquetMetaDataReader::new().parse_and_finish(&file).unwrap()
}

fn batch(rows: usize, bytes: usize) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(vec!["x".repeat(bytes); rows]));
    let lists = vec![Some(vec![Some(1), Some(2), Some(3)]); rows];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("l", lists)]).unwrap()
}

#[test]
fn a_text_that_is_there_once_in_the_file_is_there_in_each_row() {
    let widths = widths(&footer(&[batch(500, 20_000)]));
    assert_eq!(widths["t"], 20_000);
    assert!(widths["l"] >= 3 * 4, "{widths:?}");
}

#[test]
fn the_largest_rows_are_what_counts() {
    let widths = widths(&footer(&[batch(2_000, 10), batch(20, 5_000), batch(2_000, 10)]));
    assert_eq!(widths["t"], 5_000);
}

#[test]
fn fixed_widths_are_known_without_a_file() {
    let known = [DataType::Int64, DataType::Decimal128(15, 2), DataType::Boolean, DataType::Date32];
    assert_eq!(known.map(|it| width_of(&it)), [Some(8), Some(16), Some(1), Some(4)]);
    assert_eq!([DataType::Utf8, DataType::BinaryView].map(|it| width_of(&it)), [None, None]);
}

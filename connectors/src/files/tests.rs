//! What the file sources promise: exactness, refusals, and going on where one stopped.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use kho_catalog::error::{Error, Kind};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::{CsvFile, CsvOptions, ParquetFile};
use crate::source::{Offset, Source};

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

async fn all(source: &dyn Source, after: Option<&Offset>) -> Result<Vec<RecordBatch>, Error> {
    let batches: Vec<_> = source.batches(after).try_collect().await?;
    Ok(batches.into_iter().map(|(batch, _)| batch).collect())
}

async fn csv_error(content: impl AsRef<[u8]>, schema: Option<SchemaRef>) -> Error {
    let (_folder, path) = file(content);
    let options = CsvOptions { schema, ..CsvOptions::default() };
    match CsvFile::open(path, options).await {
        Err(error) => error,
        Ok(source) => all(&source, None).await.unwrap_err(),
    }
}

fn declared(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[tokio::test]
async fn csv_without_declared_types_is_text_as_written() {
    let (_folder, path) = file("code,name\r\n0100,Trần Thị Bưởi\r\n,\"a,\"\"b\"\"\nc\"\r\n");
    let source = CsvFile::open(path, CsvOptions::default()).await.unwrap();
    let batches = all(&source, None).await.unwrap();
    let batch = &batches[0];
    let (codes, names) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
    assert_eq!(codes.value(0), "0100");
    assert!(codes.is_null(1));
    assert_eq!(names.value(0), "Trần Thị Bưởi");
    assert_eq!(names.value(1), "a,\"b\"\nc");
}

#[tokio::test]
async fn csv_with_declared_types() {
    let (_folder, path) = file(
        "id,born,at,capital\n1,1990-02-28,2025-01-01T00:00:00+07:00,12345678901234.50\n2,,,\n",
    );
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = declared(&[
        ("id", DataType::Int64),
        ("born", DataType::Date32),
        ("at", utc),
        ("capital", DataType::Decimal128(18, 2)),
    ]);
    let options = CsvOptions { schema: Some(schema), ..CsvOptions::default() };
    let source = CsvFile::open(path, options).await.unwrap();
    let shown = pretty_format_batches(&all(&source, None).await.unwrap()).unwrap().to_string();
    assert!(shown.contains("1990-02-28 | 2024-12-31T17:00:00Z | 12345678901234.50"), "{shown}");
    assert!(source.schema().fields().iter().all(|field| field.is_nullable()));
}

#[tokio::test]
async fn csv_refusals_name_the_record_and_no_value() {
    let number = declared(&[("id", DataType::Int64)]);
    let error = csv_error("id\n1\nsecret\n", Some(Arc::clone(&number))).await;
    assert_eq!(error.kind(), Kind::BadCopyFormat);
    assert!(error.message().ends_with("at record 2"), "{}", error.message());
    assert!(!error.message().contains("secret") && error.detail().is_none());

    let error = csv_error("name\n1\n", Some(number)).await;
    assert_eq!(error.detail(), Some("Declared are: id. Found are: name."));

    let error = csv_error(b"a,b\n1,\xff\n", None).await;
    assert_eq!(error.kind(), Kind::CharacterNotInRepertoire);
    for (content, kind) in [
        ("", Kind::BadCopyFormat),
        ("a,a\n", Kind::DuplicateColumn),
        ("a,b\n1\n", Kind::BadCopyFormat),
        ("a,b\n1,2,3\n", Kind::BadCopyFormat),
        ("a,b\n1,\"2\n3,4\n", Kind::BadCopyFormat),
    ] {
        assert_eq!(csv_error(content, None).await.kind(), kind, "{content:?}");
    }
}

#[tokio::test]
async fn csv_goes_on_after_an_offset() {
    let rows: String = (0..100_000).map(|row| format!("{row},\"nội dung {row}\"\n")).collect();
    let (_folder, path) = file(format!("id,text\n{rows}"));
    let options = CsvOptions { batch_rows: 999, ..CsvOptions::default() };
    let source = CsvFile::open(&path, options).await.unwrap();
    let batches: Vec<_> = source.batches(None).try_collect().await.unwrap();
    assert!(batches.iter().all(|(batch, _)| batch.num_rows() <= 999));
    assert_eq!(batches.iter().map(|(batch, _)| batch.num_rows()).sum::<usize>(), 100_000);
    let rest = all(&source, Some(&batches[41].1)).await.unwrap();
    let expected: Vec<_> = batches[42..].iter().map(|(batch, _)| batch.clone()).collect();
    assert_eq!(rest, expected);
    assert!(all(&source, Some(&batches.last().unwrap().1)).await.unwrap().is_empty());

    std::fs::write(&path, "id,text\n").unwrap();
    let changed = CsvFile::open(&path, CsvOptions::default()).await.unwrap();
    for source in [&source, &changed] {
        let error = all(source, Some(&batches[41].1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotInPrerequisiteState);
    }
    let error = all(&source, Some(&Offset::new("0/16B3748"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidParameterValue);
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let (_folder, path) = file("\u{feff}id\n7\n");
    let schema = declared(&[("id", DataType::Int64)]);
    let options = CsvOptions { schema: Some(schema), ..CsvOptions::default() };
    let source = CsvFile::open(path, options).await.unwrap();
    let batches = all(&source, None).await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 7);
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = CsvFile::open(folder.path(), CsvOptions::default()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::WrongObjectType);
    let error = ParquetFile::open(folder.path().join("none"), 1).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Io);
    let (_folder, path) = file("id\n1\n");
    let error = ParquetFile::open(path, 1).await.err().unwrap();
    assert_eq!(error.kind(), Kind::BadCopyFormat);
}

fn numbered(field: Field, id: u32) -> Field {
    let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    field.with_metadata(HashMap::from([id, ("kept".to_owned(), "yes".to_owned())]))
}

/// Rows with a field id on a plain column, on list elements and on a struct's member.
fn with_field_ids(rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let member = Arc::new(numbered(Field::new("x", DataType::Int64, true), 3));
    let points = StructArray::new(vec![member].into(), vec![Arc::clone(&ids)], None);
    let element = Arc::new(numbered(Field::new("element", DataType::Int64, true), 5));
    let lengths = std::iter::repeat_n(1, usize::try_from(rows).unwrap());
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    let lists = ListArray::new(element, offsets, Arc::clone(&ids), None);
    let schema = Schema::new(vec![
        numbered(Field::new("id", DataType::Int64, false), 1),
        numbered(Field::new("point", points.data_type().clone(), true), 2),
        numbered(Field::new("list", lists.data_type().clone(), true), 4),
    ]);
    let columns: Vec<ArrayRef> = vec![ids, Arc::new(points), Arc::new(lists)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

#[tokio::test]
async fn parquet_loses_its_field_ids_and_nothing_else() {
    let batch = with_field_ids(1000);
    let mut bytes = Vec::new();
    let small = WriterProperties::builder().set_max_row_group_row_count(Some(300)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(small)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (_folder, path) = file(bytes);

    let source = ParquetFile::open(&path, 128).await.unwrap();
    assert!(!format!("{:?}", source.schema()).contains(PARQUET_FIELD_ID_META_KEY));
    assert_eq!(source.schema().field(0).metadata().get("kept").unwrap(), "yes");
    let batches: Vec<_> = source.batches(None).try_collect().await.unwrap();
    assert!(batches.iter().all(|(batch, _)| batch.schema() == source.schema()));
    assert!(batches.iter().all(|(batch, _)| batch.num_rows() <= 128));
    let whole: Vec<_> = batches.iter().map(|(batch, _)| batch.clone()).collect();
    let shown = pretty_format_batches(&whole).unwrap().to_string();
    assert_eq!(shown, pretty_format_batches(&[batch]).unwrap().to_string());

    let rest = all(&source, Some(&batches[3].1)).await.unwrap();
    assert_eq!(
        pretty_format_batches(&rest).unwrap().to_string(),
        pretty_format_batches(&whole[4..]).unwrap().to_string()
    );
    std::fs::write(&path, "").unwrap();
    let error = all(&source, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotInPrerequisiteState);
}

//! The types that columns can be declared with, as ODBC and JDBC describe types.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
};
use kho_catalog::error::{Error, Result};

use super::not_built;

static TYPES: LazyLock<Result<XdbcTypeInfoData, FlightError>> = LazyLock::new(|| {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    all().into_iter().for_each(|it| builder.append(it));
    builder.build()
});

pub(super) fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

pub(super) fn answer(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch> {
    match &*TYPES {
        Ok(types) => types.record_batch(command.data_type).map_err(not_built),
        Err(error) => Err(Error::internal(format!("the list of types is wrong: {error}"))),
    }
}

/// How a type is written and ordered, beside its name and number.
enum Like {
    /// Digits in all.
    Whole(i32),
    /// Bits of the mantissa.
    Floating(i32),
    Decimal,
    /// The most characters or bytes; what is given behind the name.
    Quoted(Option<i32>, Option<&'static str>),
    /// Characters of its text, digits of its seconds, and the kind of time it is.
    Time(i32, Option<i32>, XdbcDatetimeSubcode),
    Boolean,
}

fn all() -> Vec<XdbcTypeInfo> {
    use XdbcDataType as X;
    let mut types = vec![
        of("boolean", X::XdbcBit, Like::Boolean),
        of("bigint", X::XdbcBigint, Like::Whole(19)),
        of("bytea", X::XdbcVarbinary, Like::Quoted(None, None)),
        of("text", X::XdbcLongvarchar, Like::Quoted(None, None)),
        of("json", X::XdbcLongvarchar, Like::Quoted(None, None)),
        of("uuid", X::XdbcVarchar, Like::Quoted(Some(36), None)),
        of("varchar", X::XdbcVarchar, Like::Quoted(Some(10_485_760), Some("length"))),
        of("numeric", X::XdbcNumeric, Like::Decimal),
        of("integer", X::XdbcInteger, Like::Whole(10)),
        of("smallint", X::XdbcSmallint, Like::Whole(5)),
        of("real", X::XdbcReal, Like::Floating(24)),
        of("double precision", X::XdbcDouble, Like::Floating(53)),
        of("date", X::XdbcDate, date()),
        of("timestamp without time zone", X::XdbcTimestamp, timestamp()),
        of("timestamp with time zone", X::XdbcTimestamp, timestamp()),
    ];
    // By the number of the type, as the protocol wants them.
    types.sort_by_key(|it| it.data_type as i32);
    types
}

fn date() -> Like {
    // One number is the code of a year and of a day.
    Like::Time(10, None, XdbcDatetimeSubcode::XdbcSubcodeYear)
}

fn timestamp() -> Like {
    Like::Time(26, Some(6), XdbcDatetimeSubcode::XdbcSubcodeTimestamp)
}

fn of(name: &str, data_type: XdbcDataType, like: Like) -> XdbcTypeInfo {
    let plain = XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Basic,
        ..XdbcTypeInfo::default()
    };
    let quote = Some("'".to_owned());
    let number = |size: i32, radix: i32| XdbcTypeInfo {
        column_size: Some(size),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..plain.clone()
    };
    match like {
        Like::Boolean => XdbcTypeInfo { column_size: Some(1), ..plain },
        Like::Whole(digits) => {
            XdbcTypeInfo { minimum_scale: Some(0), maximum_scale: Some(0), ..number(digits, 10) }
        }
        Like::Floating(bits) => number(bits, 2),
        Like::Decimal => XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number(38, 10)
        },
        Like::Quoted(size, parameter) => XdbcTypeInfo {
            column_size: size,
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            create_params: parameter.map(|it| vec![it.to_owned()]),
            case_sensitive: !matches!(name, "bytea" | "uuid"),
            searchable: if name == "bytea" { Searchable::Basic } else { Searchable::Full },
            ..plain
        },
        Like::Time(size, scale, subcode) => XdbcTypeInfo {
            column_size: Some(size),
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            minimum_scale: scale,
            maximum_scale: scale,
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(subcode),
            ..plain
        },
    }
}

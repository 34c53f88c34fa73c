//! How many pages may hold a value, by the page index.
//!
//! What it guarantees: a page that holds a value is counted, and where that cannot be told, nothing is
//! said. Bounds may be shortened, as Parquet allows: they enclose the values all the same.

use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use crate::table::bloom;

/// For each row group, how many pages of some column may hold what is `asked`; `None` where that
/// cannot be told of any column.
pub(super) fn holding(footer: &ParquetMetaData, asked: &[LiteralGuarantee]) -> Option<Vec<usize>> {
    let index = footer.column_index()?;
    let counted = asked.iter().filter(|it| it.guarantee == Guarantee::In).filter_map(|asked| {
        let (leaf, values) = bloom::values(footer, asked)?;
        index.iter().map(|group| count(group.get(leaf)?, &values)).collect::<Option<Vec<usize>>>()
    });
    counted.reduce(|one, other| one.into_iter().zip(other).map(|(a, b)| a.min(b)).collect())
}

/// How many pages may hold one of `values`, each in its plain encoding.
fn count(index: &ColumnIndexMetaData, values: &[Vec<u8>]) -> Option<usize> {
    match index {
        ColumnIndexMetaData::INT32(index) => {
            let values = numbers(values, i32::from_le_bytes)?;
            Some(within(index.min_values_iter(), index.max_values_iter(), &values))
        }
        ColumnIndexMetaData::INT64(index) => {
            let values = numbers(values, i64::from_le_bytes)?;
            Some(within(index.min_values_iter(), index.max_values_iter(), &values))
        }
        ColumnIndexMetaData::BYTE_ARRAY(index) => {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let pages = index.min_values_iter().zip(index.max_values_iter());
            Some(pages.filter(|(least, most)| holds(*least, *most, &values)).count())
        }
        _ => None,
    }
}

fn numbers<T, const N: usize>(values: &[Vec<u8>], of: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    values.iter().map(|value| value.as_slice().try_into().ok().map(&of)).collect()
}

fn within<'a, T: Copy + PartialOrd + 'a>(
    least: impl Iterator<Item = Option<&'a T>>,
    most: impl Iterator<Item = Option<&'a T>>,
    values: &[T],
) -> usize {
    let pages = least.zip(most);
    pages.filter(|(least, most)| holds(least.copied(), most.copied(), values)).count()
}

/// A page without bounds may hold anything.
fn holds<T: PartialOrd>(least: Option<T>, most: Option<T>, values: &[T]) -> bool {
    match (least, most) {
        (Some(least), Some(most)) => values.iter().any(|it| *it >= least && *it <= most),
        _ => true,
    }
}

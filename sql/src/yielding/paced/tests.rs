//! How right batches are cut.

use arrow::array::{ArrayRef, Int32Array};

use super::*;

#[test]
fn no_piece_has_more_pairs_and_all_rows_are_in_one() {
    let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
    let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
    for (gathered, expected) in [(0, 1), (1, 1), (PAIRS / 100, 10), (PAIRS * 2, 1000)] {
        let all: Vec<_> = pieces(batch.clone(), gathered).collect();
        assert_eq!(all.len(), expected, "{gathered}");
        assert_eq!(all.iter().filter(|(_, is_first)| *is_first).count(), 1);
        let given: Vec<RecordBatch> = all.into_iter().map(|(piece, _)| piece).collect();
        let again = arrow::compute::concat_batches(&batch.schema(), &given).unwrap();
        assert_eq!(again, batch);
    }
}

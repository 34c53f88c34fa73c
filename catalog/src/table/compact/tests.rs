//! Which files a compaction takes, and what that comes to.

use super::*;

fn files(rows: &[u64]) -> Vec<Candidate> {
    let file = |(index, rows): (usize, &u64)| Candidate {
        index,
        path: format!("part-{index}"),
        bytes: 1000,
        rows: Some(*rows),
        modified_ms: 0,
    };
    rows.iter().enumerate().map(file).collect()
}

fn taken(rows: &[u64], effort: Effort) -> Vec<u64> {
    choose(files(rows), effort).into_iter().filter_map(|file| file.rows).collect()
}

#[test]
fn few_files_are_left_alone() {
    assert!(taken(&[1; FILES_MIN - 1], Effort::Due).is_empty());
    assert_eq!(taken(&[1; FILES_MIN], Effort::Due).len(), FILES_MIN);
    assert!(taken(&[1], Effort::All).is_empty());
    assert_eq!(taken(&[5, 1000], Effort::All), [5, 1000]);
}

#[test]
fn a_large_file_is_not_rewritten_for_a_few_rows() {
    let mut rows = vec![1; FILES_MIN];
    rows.push(1000);
    assert_eq!(taken(&rows, Effort::Due), vec![1; FILES_MIN]);
    rows.push(1000);
    assert_eq!(taken(&rows, Effort::Due), rows);
}

/// Ten thousand single-row inserts, each followed by what is due.
#[test]
fn cost_and_number_of_files_grow_with_the_logarithm() {
    let (mut live, mut rewritten, mut most) = (Vec::new(), 0, 0);
    for insert in 1..=10_000_u64 {
        live.push(1);
        loop {
            let chosen = choose(files(&live), Effort::Due);
            if chosen.is_empty() {
                break;
            }
            let rows: u64 = chosen.iter().filter_map(|file| file.rows).sum();
            rewritten += rows;
            let places: Vec<usize> = chosen.iter().map(|file| file.index).collect();
            live = (live.iter().enumerate())
                .filter(|(place, _)| !places.contains(place))
                .map(|(_, rows)| *rows)
                .collect();
            live.push(rows);
        }
        assert_eq!(live.iter().sum::<u64>(), insert);
        most = most.max(live.len());
    }
    assert!(most <= 20, "{most} files");
    assert!(rewritten <= 10_000 * 14, "{rewritten} rows were rewritten");
}

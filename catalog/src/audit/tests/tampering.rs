//! Whatever is done to the files, the first record that it was done to is named.
//!
//! Seeded: `KHO_LEDGER_SEEDS` asks for more.

use std::collections::BTreeMap;

use super::sealing::catalog;
use super::*;
use crate::log::Catalog;

/// Numbers that look random and are the same for a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        it ^ (it >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// A ledger of two servers, sealed in part and signed to its end.
async fn written() -> Files {
    let environment = memory();
    let catalog = catalog(&environment).await;
    for server in ["kho-1", "kho-2"] {
        let ledger = open(&environment, server).await;
        let mut keeping = ledger.keep(&catalog).await.unwrap();
        for round in 0..6 {
            let opened = join_all((0..5).map(|it| {
                let record = record(&format!("{server} {round} {it}"));
                async { ledger.begin(record).await.unwrap() }
            }));
            opened.await.into_iter().for_each(|it| it.complete(done(round)));
            keeping.anchor().await.unwrap();
            if round == 1 || round == 2 {
                keeping.seal().await.unwrap();
            }
        }
        ledger.close().await.unwrap();
        keeping.anchor().await.unwrap();
    }
    files(&environment).await
}

async fn files(environment: &Environment) -> Files {
    let found: Vec<_> = environment.store().list(None).try_collect().await.unwrap();
    let mut files = Files::new();
    for object in found {
        let bytes = environment.store().get(&object.location).await.unwrap().bytes().await.unwrap();
        files.insert(object.location.to_string(), bytes.to_vec());
    }
    files
}

async fn verified(files: &Files) -> Result<Verified> {
    let environment = memory();
    for (name, bytes) in files {
        let bytes = bytes.clone();
        environment.store().put(&Path::from(name.as_str()), bytes.into()).await?;
    }
    let catalog = Catalog::open(environment.clone(), "verify").await?;
    let source = Source::new(&environment, &environment);
    source.verify(&catalog, Some(&keys().public())).await
}

/// The rows of a file with bodies or links, each with the number of its record.
fn rows(bytes: &[u8]) -> Vec<(Option<u64>, Vec<u8>)> {
    let rows = bytes.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
    let number = |row: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(row).unwrap();
        ["sequence", "body"].iter().find_map(|key| value.get(key)?.as_u64())
    };
    rows.map(|row| (number(row), row.to_vec())).collect()
}

fn joined(rows: &[(Option<u64>, Vec<u8>)]) -> Vec<u8> {
    rows.iter().flat_map(|(_, row)| row.iter().copied().chain([b'\n'])).collect()
}

/// Does something to one file; says to which server's record at the earliest, where it was a record.
fn tampered(files: &mut Files, random: &mut Random) -> (String, Option<(String, u64)>) {
    let names: Vec<String> = files
        .keys()
        .filter(|name| name.starts_with("audit/journal/") || name.starts_with("audit/bodies/"))
        .cloned()
        .collect();
    let name = names[random.below(names.len())].clone();
    let server = name.split('/').next_back().unwrap()[..5].to_owned();
    let mut all = rows(&files[&name]);
    let first = usize::from(all[0].0.is_none());
    let at = first + random.below(all.len() - first);
    let number = all[at].0;
    let in_journal = name.starts_with("audit/journal/");
    let what = match random.below(if in_journal { 5 } else { 3 }) {
        0 => {
            let mut bytes = files[&name].clone();
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
            let before = bytes[..place].iter().filter(|byte| **byte == b'\n').count();
            // The last line end belongs to the last row.
            let row = all.get(before).or(all.last()).unwrap().0;
            let what = format!("bit of byte {place} of {name}");
            files.insert(name, bytes);
            return (what, row.map(|row| (server, row)));
        }
        1 => {
            all.remove(at);
            "row removed"
        }
        2 => {
            let byte = random.below(all[at].1.len());
            all[at].1.truncate(byte);
            all.truncate(at + 1);
            "cut off"
        }
        3 => {
            let other = first + random.below(all.len() - first);
            if other == at {
                return tampered(files, random);
            }
            all.swap(at, other);
            let earlier = all[at.max(other)].0.min(all[at.min(other)].0);
            let named = earlier.unwrap();
            let what = format!("rows {at} and {other} of {name} swapped");
            files.insert(name, joined(&all));
            return (what, Some((server, named)));
        }
        _ => {
            let named = all[first].0.unwrap();
            files.remove(&name);
            return (format!("{name} removed"), Some((server, named)));
        }
    };
    let what = format!("{what}: row {at} of {name}");
    files.insert(name, joined(&all));
    (what, number.map(|number| (server, number)))
}

#[tokio::test]
async fn whatever_is_done_to_a_record_is_found_and_named() {
    let seeds = std::env::var("KHO_LEDGER_SEEDS").ok().and_then(|it| it.parse().ok());
    let whole = written().await;
    verified(&whole).await.unwrap();
    for seed in 0..seeds.unwrap_or(400) {
        let mut files = whole.clone();
        let (what, named) = tampered(&mut files, &mut Random(seed));
        if files == whole {
            continue;
        }
        let error = match verified(&files).await {
            Err(error) => error,
            Ok(found) => panic!("seed {seed}: {what}: nothing is found: {found:?}"),
        };
        let Some((server, number)) = named else { continue };
        let wanted = format!("audit record {number} of server {server} ");
        let message = error.message();
        assert!(
            message.starts_with(&wanted) && error.sqlstate() == "XX001",
            "seed {seed}: {what}: {message:?}, not {wanted:?}"
        );
    }
}

/// What was changed in the sealed table's own files is found, or changes no record.
#[tokio::test]
async fn sealed_files_cannot_be_changed_unseen() {
    let whole = written().await;
    let seeds = std::env::var("KHO_LEDGER_SEEDS").ok().and_then(|it| it.parse().ok());
    let sealed: Vec<String> =
        whole.keys().filter(|it| it.starts_with("audit/sealed/")).cloned().collect();
    for seed in 0..seeds.unwrap_or(200) {
        let (mut files, mut random) = (whole.clone(), Random(seed));
        let name = &sealed[random.below(sealed.len())];
        let bytes = files.get_mut(name).unwrap();
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(8);
        // A byte that no reader looks at changes nothing; then every record was found whole.
        if let Ok(found) = verified(&files).await {
            assert_eq!(found, verified(&whole).await.unwrap(), "seed {seed}: {name} {place}");
        }
    }
}

#[tokio::test]
async fn anchors_cannot_be_forged_or_taken_away() {
    let whole = written().await;
    let is_anchor = |name: &&String| name.starts_with("audit/anchor/kho-1/");
    let anchors: Vec<String> = whole.keys().filter(is_anchor).cloned().collect();
    assert!(anchors.len() > 3, "{anchors:?}");
    for name in &anchors {
        let mut files = whole.clone();
        let bytes = files.get_mut(name).unwrap();
        bytes.iter_mut().step_by(17).for_each(|byte| *byte ^= 1);
        assert_eq!(verified(&files).await.unwrap_err().sqlstate(), "XX001", "{name}");
    }
    // In the middle one that is missing is missed.
    let mut files = whole.clone();
    files.remove(&anchors[1]);
    let error = verified(&files).await.unwrap_err();
    assert!(error.message().contains("does not follow"), "{}", error.message());
    // A key that the ledger was not signed by verifies nothing.
    let environment = memory();
    for (name, bytes) in &whole {
        let bytes = bytes.clone();
        environment.store().put(&Path::from(name.as_str()), bytes.into()).await.unwrap();
    }
    let catalog = Catalog::open(environment.clone(), "verify").await.unwrap();
    let other = Keys::passing().unwrap().public();
    let source = Source::new(&environment, &environment);
    let error = source.verify(&catalog, Some(&other)).await.unwrap_err();
    assert!(error.message().contains("not signed"), "{}", error.message());
    // The end of the catalog log is signed for too.
    let mut files = whole;
    let last = files.keys().rfind(|name| name.starts_with("catalog/log/")).unwrap().clone();
    files.remove(&last);
    let error = verified(&files).await.unwrap_err();
    assert!(error.message().contains("catalog entry"), "{}", error.message());
}

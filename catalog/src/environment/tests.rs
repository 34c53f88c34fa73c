//! What the local store promises, so far as a test that cannot cut the power sees it.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::path::Path as Location;
use object_store::{
    Error as StoreError, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::*;

fn local() -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::open(folder.path().to_str().unwrap()).unwrap();
    (folder, environment)
}

async fn put(environment: &Environment, name: &str, bytes: &str, mode: PutMode) -> String {
    let payload = PutPayload::from(bytes.to_owned());
    let location = Location::from(name);
    match environment.store().put_opts(&location, payload, PutOptions::from(mode)).await {
        Ok(_) => "stored".to_owned(),
        Err(StoreError::AlreadyExists { path, .. }) => format!("exists: {path}"),
        Err(StoreError::NotImplemented { .. }) => "refused".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

async fn get(environment: &Environment, name: &str) -> String {
    let found = environment.store().get(&Location::from(name)).await.unwrap();
    String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()
}

async fn listed(environment: &Environment) -> Vec<String> {
    let listed: Vec<_> = environment.store().list(None).try_collect().await.unwrap();
    let mut names: Vec<_> = listed.into_iter().map(|it| it.location.to_string()).collect();
    names.sort();
    names
}

/// Every file below the root, hidden ones too.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![environment.local_root().unwrap().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[tokio::test]
async fn create_keeps_what_is_there_and_overwrite_does_not() {
    let (_folder, environment) = local();
    let name = "catalog/log/0.json";
    assert_eq!(put(&environment, name, "one", PutMode::Create).await, "stored");
    assert_eq!(put(&environment, name, "two", PutMode::Create).await, "exists: catalog/log/0.json");
    assert_eq!(get(&environment, name).await, "one");
    assert_eq!(put(&environment, name, "three", PutMode::Overwrite).await, "stored");
    assert_eq!(get(&environment, name).await, "three");
    let update = PutMode::Update(UpdateVersion { e_tag: None, version: None });
    assert_eq!(put(&environment, name, "four", update).await, "refused");
    assert_eq!(files(&environment).len(), 1);
}

#[tokio::test]
async fn of_many_that_create_one_name_one_succeeds() {
    let (_folder, environment) = local();
    let puts = (0..32).map(|it| {
        let environment = environment.clone();
        tokio::spawn(async move {
            put(&environment, "a/b/c.json", &it.to_string(), PutMode::Create).await
        })
    });
    let outcomes = futures::future::join_all(puts).await;
    let stored = outcomes.into_iter().filter(|it| it.as_ref().unwrap() == "stored").count();
    assert_eq!(stored, 1);
    assert_eq!(files(&environment).len(), 1);
}

#[tokio::test]
async fn an_upload_is_seen_whole_or_not_at_all() {
    let (_folder, environment) = local();
    let location = Location::from("tables/t/1/part.parquet");
    let mut upload = environment.store().put_multipart(&location).await.unwrap();
    let first = upload.put_part(PutPayload::from_static(b"first, "));
    let second = upload.put_part(PutPayload::from_static(b"second"));
    second.await.unwrap();
    first.await.unwrap();
    assert_eq!(listed(&environment).await, [""; 0]);
    upload.complete().await.unwrap();
    assert!(upload.complete().await.is_err());
    assert_eq!(get(&environment, location.as_ref()).await, "first, second");

    let mut upload = environment.store().put_multipart(&location).await.unwrap();
    upload.put_part(PutPayload::from_static(b"never")).await.unwrap();
    upload.abort().await.unwrap();
    drop(environment.store().put_multipart(&location).await.unwrap());
    assert_eq!(get(&environment, location.as_ref()).await, "first, second");
    assert_eq!(files(&environment).len(), 1);
}

#[tokio::test]
async fn copies_and_renames() {
    let (_folder, environment) = local();
    let store = environment.store();
    let [a, b, c] = ["a/one", "b/two", "c/three"].map(Location::from);
    put(&environment, "a/one", "1", PutMode::Create).await;
    store.copy(&a, &b).await.unwrap();
    let again = store.copy_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(again, StoreError::AlreadyExists { .. }));
    let absent = store.copy(&Location::from("absent"), &b).await.unwrap_err();
    assert!(matches!(absent, StoreError::NotFound { .. }));
    store.rename(&b, &c).await.unwrap();
    // A copy shares its bytes with the original until one of them is replaced.
    put(&environment, "a/one", "2", PutMode::Overwrite).await;
    assert_eq!(get(&environment, "c/three").await, "1");
    assert_eq!(listed(&environment).await, ["a/one", "c/three"]);
    assert_eq!(files(&environment).len(), 2);
}

#[tokio::test]
async fn a_folder_that_was_removed_is_made_again() {
    let (folder, environment) = local();
    put(&environment, "a/b/one", "1", PutMode::Create).await;
    std::fs::remove_dir_all(folder.path().join("a")).unwrap();
    put(&environment, "a/b/one", "2", PutMode::Create).await;
    assert_eq!(get(&environment, "a/b/one").await, "2");
}

/// A disk that is not mounted is neither an empty warehouse nor a place to write to.
#[tokio::test]
async fn a_root_that_is_gone_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("warehouse");
    let environment = Environment::open_folder(&root).unwrap();
    put(&environment, "a/one", "1", PutMode::Create).await;
    let aside = folder.path().join("aside");
    std::fs::rename(&root, &aside).unwrap();
    let store = environment.store();
    let failed = |error: StoreError| !matches!(error, StoreError::NotFound { .. });
    assert!(failed(store.get(&Location::from("a/one")).await.unwrap_err()));
    assert!(failed(store.head(&Location::from("b")).await.unwrap_err()));
    assert!(failed(store.list(None).try_collect::<Vec<_>>().await.unwrap_err()));
    for name in ["a/one", "b/two"] {
        let payload = PutPayload::from_static(b"2");
        assert!(failed(store.put(&Location::from(name), payload).await.unwrap_err()));
    }
    assert!(!root.exists());
    std::fs::rename(&aside, &root).unwrap();
    assert_eq!(get(&environment, "a/one").await, "1");
    assert_eq!(put(&environment, "b/two", "2", PutMode::Create).await, "stored");
}

#[tokio::test]
async fn leftovers_are_hidden_and_swept_when_old() {
    let (folder, environment) = local();
    put(&environment, "a/one", "1", PutMode::Create).await;
    let hour = Duration::from_secs(3600);
    for (name, age) in [("a/one#7", 2 * hour), ("a/one#8", hour / 2), ("a/one#x", 2 * hour)] {
        let file = File::create(folder.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    assert!(!listed(&environment).await.iter().any(|name| name.ends_with("#7")));
    assert_eq!(environment.sweep_leftovers(hour).await.unwrap(), 1);
    assert_eq!(files(&environment).len(), 3);
    assert!(!folder.path().join("a/one#7").exists());
}

#[test]
fn places_that_are_opened_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("deep/down");
    let opened = Environment::open(deep.to_str().unwrap()).unwrap();
    assert!(deep.is_dir());
    let url = opened.root_url().clone();
    assert!(url.as_str().ends_with("/deep/down/"));
    let again = Environment::open(url.as_str()).unwrap();
    assert_eq!(again.local_root(), opened.local_root());
    assert!(Environment::open("memory://").unwrap().local_root().is_none());
    for refused in ["gs://bucket", "az://container"] {
        let error = Environment::open(refused).unwrap_err();
        assert_eq!(error.sqlstate(), "0A000");
        assert!(error.hint().is_some());
    }
    assert_eq!(Environment::open("ftp://x").unwrap_err().sqlstate(), "22023");
    File::create(folder.path().join("file")).unwrap();
    let error = Environment::open(folder.path().join("file").to_str().unwrap()).unwrap_err();
    assert_eq!(error.sqlstate(), "58030");
}

#[test]
fn clocks_ids_and_salts() {
    let clock = Arc::new(ManualClock::new(1_000));
    let environment = Environment::open("memory://").unwrap().with_clock(Arc::clone(&clock) as _);
    clock.advance(Duration::from_millis(500));
    assert_eq!((environment.now_ms(), environment.monotonic_ms()), (1_500, 500));
    let (first, second) = (environment.new_id(), environment.new_id());
    assert!(first < second && first.len() == 32);
    assert_ne!(environment.salt(), environment.salt());
    assert!(SystemClock.now_ms() > 1_700_000_000_000);
    assert!(SystemClock.monotonic_ms() <= SystemClock.monotonic_ms());
}

/// A folder is listed behind a name as a whole walk lists it, whatever else lies in it.
#[tokio::test]
async fn a_listing_behind_a_name_is_the_end_of_the_whole() {
    let (folder, environment) = local();
    for number in [3, 1, 2, 10, 7] {
        put(&environment, &format!("t/log/{number:03}.json"), "x", PutMode::Create).await;
    }
    std::fs::write(folder.path().join("t/log/009.json#17"), "half").unwrap();
    let behind = async |offset: &str| -> Vec<String> {
        let prefix = Location::from("t/log");
        let offset = Location::from(offset);
        let found = environment.store().list_with_offset(Some(&prefix), &offset);
        let found: Vec<_> = found.try_collect().await.unwrap();
        found.into_iter().map(|it| format!("{} {}", it.location, it.size)).collect()
    };
    let flat = behind("t/log/002.json").await;
    assert_eq!(flat, ["t/log/003.json 1", "t/log/007.json 1", "t/log/010.json 1"]);
    assert_eq!(behind("t/log/002").await.len(), 4);
    assert_eq!(behind("t/log/010.json").await, [""; 0]);
    assert_eq!(behind("t").await.len(), 5);
    // With a folder, or a name that is written in more than one way, it is walked.
    put(&environment, "t/log/more/001.json", "x", PutMode::Create).await;
    assert_eq!(behind("t/log/002.json").await[3], "t/log/more/001.json 1");
    put(&environment, "t/log/008 é.json", "x", PutMode::Create).await;
    assert_eq!(behind("t/log/007.json").await.len(), 3);
    let nowhere = Location::from("t/none");
    let offset = Location::from("t/none/5");
    let none: Vec<_> =
        environment.store().list_with_offset(Some(&nowhere), &offset).try_collect().await.unwrap();
    assert_eq!(none.len(), 0);
}

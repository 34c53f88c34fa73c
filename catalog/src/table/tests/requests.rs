//! How often the store is asked, whatever the length of a table's log.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;

use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::*;

/// Counts what is asked of the store below it.
#[derive(Debug)]
struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    asked: Mutex<Vec<String>>,
}

impl CountingStore {
    fn note(&self, what: &str, place: &str) {
        self.asked.lock().unwrap().push(format!("{what} {place}"));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingStore({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.note("put", location.as_ref());
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.note("put", location.as_ref());
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.note(if options.head { "head" } else { "get" }, location.as_ref());
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.note("get", location.as_ref());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.note("list", prefix.map_or("", AsRef::as_ref));
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.note("list", offset.as_ref());
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.note("list", prefix.map_or("", AsRef::as_ref));
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.note("copy", from.as_ref());
        self.inner.copy_opts(from, to, options).await
    }
}

/// A table of `commits` commits that is open, and the store that counts.
async fn open(commits: u64) -> (Tables, Location, Arc<CountingStore>) {
    let environment = Environment::open("memory://").unwrap();
    let inner = environment.store().clone();
    let store = Arc::new(CountingStore { inner, asked: Mutex::default() });
    let tables = Tables::new(environment.with_store(store.clone()));
    let location = Location { dataset: "d".to_owned(), generation: 0 };
    tables.create(&location, &columns(), None, &author()).await.unwrap();
    let folder = location.path().join("_delta_log");
    for version in 1..commits {
        let info = serde_json::json!({ "commitInfo": { "timestamp": 0 }});
        let body = info.to_string().into_bytes();
        let path = folder.clone().join(format!("{version:020}.json"));
        store.put(&path, body.into()).await.unwrap();
    }
    assert_eq!(tables.latest(&location).await.unwrap().version(), commits - 1);
    store.take();
    (tables, location, store)
}

/// What a statement asks for: where nobody committed, and where somebody did.
async fn requests(commits: u64) -> (Vec<String>, usize) {
    let (tables, location, store) = open(commits).await;
    tables.latest(&location).await.unwrap();
    let unchanged = store.take();
    let snapshot = tables.latest(&location).await.unwrap();
    let nothing = Commit::append(&snapshot, Staged::empty(&tables), author());
    tables.commit(&snapshot, nothing).await.unwrap();
    store.take();
    assert_eq!(tables.latest(&location).await.unwrap().version(), commits);
    (unchanged, store.take().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_costs_no_more_requests_than_a_short_one() {
    let (unchanged, changed) = requests(10).await;
    assert_eq!(unchanged.len(), 1, "{unchanged:?}");
    assert!(unchanged[0].starts_with("head "), "{unchanged:?}");
    let (long_unchanged, long_changed) = requests(1000).await;
    assert_eq!(long_unchanged.len(), 1, "{long_unchanged:?}");
    assert_eq!(long_changed, changed);
}

/// A version once opened is not read again: it cannot change.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_is_read_once() {
    let (tables, location, store) = open(20).await;
    assert_eq!(tables.at_version(&location, 7).await.unwrap().version(), 7);
    assert!(!store.take().is_empty());
    assert_eq!(tables.at_version(&location, 7).await.unwrap().version(), 7);
    assert_eq!(store.take(), Vec::<String>::new());
}

/// When each version was made is read once, too.
#[tokio::test(flavor = "multi_thread")]
async fn times_are_read_once() {
    let (tables, location, store) = open(20).await;
    assert_eq!(tables.version_at(&location, i64::MAX).await.unwrap(), Some(19));
    assert!(store.take().len() >= 19);
    assert_eq!(tables.version_at(&location, i64::MAX).await.unwrap(), Some(19));
    let again = store.take();
    assert_eq!(again.len(), 1, "{again:?}");
}

/// Readers that ask at one moment read what is new together, not each for itself.
#[tokio::test(flavor = "multi_thread")]
async fn many_readers_open_a_table_once() {
    let environment = Environment::open("memory://").unwrap();
    let inner = environment.store().clone();
    let store = Arc::new(CountingStore { inner, asked: Mutex::default() });
    let location = Location { dataset: "d".to_owned(), generation: 0 };
    let environment = environment.with_store(store.clone());
    Tables::new(environment.clone()).create(&location, &columns(), None, &author()).await.unwrap();
    let tables = Tables::new(environment);
    store.take();
    let readers = (0..16).map(|_| {
        let (tables, location) = (tables.clone(), location.clone());
        tokio::spawn(async move { tables.latest(&location).await.unwrap().version() })
    });
    for version in futures::future::join_all(readers).await {
        assert_eq!(version.unwrap(), 0);
    }
    let listed = store.take().into_iter().filter(|it| it.starts_with("list")).count();
    assert_eq!(listed, 1);
}

//! A local folder as an object store whose acknowledged writes survive a power cut.
//!
//! What it is: `object_store`'s `LocalFileSystem` for reading, and writing of our own, because
//! that one never calls fsync.
//! What it guarantees: when a put, a finished multipart upload, a copy or a rename returns, the
//! bytes and the name are on the disk; a name is never seen with only some of its bytes, not even
//! after a power cut; "already exists" is answered only when that object's name is on the disk too.
//! "Not found" is about the object: a root that is gone (a disk that is not mounted) is a failure,
//! and is not made again.
//! What it does not: a removal may come back after a power cut. Entity tags are not returned.
//! On failure: the unfinished file is removed; one that a killed process left is named
//! `name#digits`, which listings hide and [`DurableLocal::sweep_leftovers`] removes.

mod listing;

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use uuid::Uuid;

use super::crash::step;

/// How many folders are remembered as being on the disk; beyond it the memory starts afresh.
const DURABLE_FOLDERS_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct DurableLocal {
    inner: LocalFileSystem,
    disk: Arc<Disk>,
}

#[derive(Debug)]
struct Disk {
    root: PathBuf,
    /// Folders whose own names are known to be on the disk, up to the root.
    durable_folders: Mutex<HashSet<PathBuf>>,
}

/// A file under its temporary name; removed again unless it was published.
#[derive(Debug)]
struct Staged {
    file: File,
    path: PathBuf,
    published: AtomicBool,
}

#[derive(Debug)]
struct Upload {
    disk: Arc<Disk>,
    location: Path,
    target: PathBuf,
    staged: Option<Arc<Staged>>,
    offset: u64,
}

impl DurableLocal {
    /// Opens the store at `root`; makes the folder where it is absent.
    pub(super) fn open(root: &FsPath) -> io::Result<DurableLocal> {
        make_folders(root)?;
        let root = root.canonicalize()?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        let durable_folders = Mutex::default();
        Ok(DurableLocal { inner, disk: Arc::new(Disk { root, durable_folders }) })
    }

    pub(super) fn root(&self) -> &FsPath {
        &self.disk.root
    }

    /// Removes temporary files last written to at least `older_than` ago.
    pub(super) fn sweep_leftovers(&self, older_than: Duration) -> io::Result<usize> {
        let now = SystemTime::now();
        let mut swept = 0;
        let mut folders = vec![self.disk.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if is_leftover(&entry.file_name().to_string_lossy()) {
                    // A writer that is still alive may finish its file under our eyes.
                    let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else {
                        continue;
                    };
                    if now.duration_since(modified).is_ok_and(|age| age >= older_than) {
                        fs::remove_file(entry.path())?;
                        swept += 1;
                    }
                }
            }
        }
        Ok(swept)
    }

    /// Runs `work` on the disk, then makes sure that the names it made or removed are on it.
    async fn settle(&self, location: &Path) -> Result<()> {
        let (disk, target) = (Arc::clone(&self.disk), self.inner.path_to_filesystem(location)?);
        blocking(move || disk.settle(&target).map_err(failed)).await
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) || !options.attributes.is_empty() {
            return Err(refused("a put that updates a version or sets attributes"));
        }
        let (disk, target) = (Arc::clone(&self.disk), self.inner.path_to_filesystem(location)?);
        let location = location.clone();
        blocking(move || {
            let staged = disk.stage(&target).map_err(failed)?;
            let mut file = &staged.file;
            payload.iter().try_for_each(|part| file.write_all(part)).map_err(failed)?;
            disk.publish(&staged, &target, &options.mode, &location)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(refused("an upload that sets attributes"));
        }
        let (disk, target) = (Arc::clone(&self.disk), self.inner.path_to_filesystem(location)?);
        let location = location.clone();
        blocking(move || {
            let staged = Some(Arc::new(disk.stage(&target).map_err(failed)?));
            Ok(Box::new(Upload { disk, location, target, staged, offset: 0 }) as _)
        })
        .await
    }

    /// # Why
    /// Each statement asks for the next commit of each of its tables, which mostly is not there: to
    /// look at a name takes less time than to have another thread look.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head
            && let Err(source) = fs::symlink_metadata(self.inner.path_to_filesystem(location)?)
            && source.kind() == io::ErrorKind::NotFound
        {
            let (path, source) = (location.to_string(), source.into());
            return Err(self.disk.explained(Error::NotFound { path, source }));
        }
        let found = self.inner.get_opts(location, options).await;
        found.map_err(|error| self.disk.explained(error))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.inner.get_ranges(location, ranges).await;
        found.map_err(|error| self.disk.explained(error))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list(prefix), Arc::clone(&self.disk))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = self.inner.list_with_offset(prefix, offset);
        let place = prefix.and_then(|prefix| {
            let folder = self.inner.path_to_filesystem(prefix).ok()?;
            Some((folder, prefix.clone(), offset.clone()))
        });
        let listing = async move {
            let Some((folder, prefix, offset)) = place else { return Ok(walk) };
            let listed =
                blocking(move || listing::behind(&folder, &prefix, &offset).map_err(failed));
            Ok::<_, Error>(match listed.await? {
                Some(found) => futures::stream::iter(found.into_iter().map(Ok)).boxed(),
                None => walk,
            })
        };
        sorted(futures::stream::once(listing).try_flatten().boxed(), Arc::clone(&self.disk))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // The copy is a second link to the same file, which another tool may have written and
        // left in the page cache.
        let source = self.inner.path_to_filesystem(from)?;
        let created = options.mode == CopyMode::Create;
        blocking(move || match File::open(source) {
            Ok(file) => file.sync_all().map_err(failed),
            // The copy itself says that it is not there.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        })
        .await?;
        let copied = self.inner.copy_opts(from, to, options).await;
        if copied.is_ok() || (created && matches!(copied, Err(Error::AlreadyExists { .. }))) {
            self.settle(to).await?;
        }
        copied
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        // The new name first: a power cut in between then leaves both names, never neither.
        self.settle(to).await?;
        self.settle(from).await
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.disk.root.display())
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += u64::try_from(data.content_length()).unwrap_or(u64::MAX);
        let staged = self.staged.clone();
        Box::pin(blocking(move || {
            let staged = staged.ok_or_else(|| refused("a part after the end of an upload"))?;
            for part in data.iter() {
                staged.file.write_all_at(part, offset).map_err(failed)?;
                offset += u64::try_from(part.len()).unwrap_or(u64::MAX);
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(|| refused("ending an upload twice"))?;
        let (disk, target) = (Arc::clone(&self.disk), self.target.clone());
        let location = self.location.clone();
        blocking(move || disk.publish(&staged, &target, &PutMode::Overwrite, &location)).await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take().ok_or_else(|| refused("ending an upload twice"))?;
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}

impl Disk {
    /// A new temporary file beside `target`.
    fn stage(&self, target: &FsPath) -> io::Result<Staged> {
        let folder = parent(target)?;
        self.prepare(folder)?;
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let mut path = target.as_os_str().to_owned();
        path.push(format!("#{random}"));
        let path = PathBuf::from(path);
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            // The folder was removed since it was last seen; it is made again.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.forget(folder);
                self.prepare(folder)?;
                open()?
            }
            opened => opened?,
        };
        Ok(Staged { file, path, published: AtomicBool::new(false) })
    }

    /// Gives a staged file its name, durably.
    fn publish(
        &self,
        staged: &Staged,
        target: &FsPath,
        mode: &PutMode,
        location: &Path,
    ) -> Result<PutResult> {
        step();
        staged.file.sync_all().map_err(failed)?;
        step();
        if *mode == PutMode::Create {
            // The temporary name goes when `staged` is dropped.
            if let Err(source) = fs::hard_link(&staged.path, target) {
                if source.kind() != ErrorKind::AlreadyExists {
                    return Err(failed(source));
                }
                // Whoever made it may not have synced its name yet, and the caller is about to
                // rely on it.
                self.settle(target).map_err(failed)?;
                let path = location.to_string();
                return Err(Error::AlreadyExists { path, source: Box::new(source) });
            }
        } else {
            fs::rename(&staged.path, target).map_err(failed)?;
            staged.published.store(true, Ordering::Release);
        }
        step();
        self.settle(target).map_err(failed)?;
        step();
        Ok(PutResult { e_tag: None, version: None })
    }

    /// Puts the name of `target`, and of every folder above it, on the disk.
    fn settle(&self, target: &FsPath) -> io::Result<()> {
        let folder = parent(target)?;
        self.prepare(folder)?;
        sync_folder(folder)
    }

    /// Makes `folder` and sees to it that its name, and those above it, are on the disk. This is
    /// done on first sight even where the folder exists: who made it may not have got that far.
    fn prepare(&self, folder: &FsPath) -> io::Result<()> {
        if self.folders().contains(folder) {
            return Ok(());
        }
        self.check_root()?;
        fs::create_dir_all(folder)?;
        let below_root = |it: &&FsPath| it.starts_with(&self.root);
        for above in folder.ancestors().skip(1).take_while(below_root) {
            sync_folder(above)?;
        }
        let mut folders = self.folders();
        if folders.len() >= DURABLE_FOLDERS_MAX {
            folders.clear();
        }
        folders.insert(folder.to_owned());
        Ok(())
    }

    /// What is written into a folder that was made anew in the place of the root is lost when the
    /// true one is back.
    fn check_root(&self) -> io::Result<()> {
        match self.root.is_dir() {
            true => Ok(()),
            false => Err(io::Error::other("the warehouse's folder is gone")),
        }
    }

    fn explained(&self, error: Error) -> Error {
        match error {
            Error::NotFound { .. } => self.check_root().map_or_else(failed, |()| error),
            other => other,
        }
    }

    fn forget(&self, folder: &FsPath) {
        self.folders().remove(folder);
    }

    fn folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        // A set stays whole whoever panicked while holding it.
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !*self.published.get_mut()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file stays");
        }
    }
}

/// Puts the names in `folder` on the disk.
pub(crate) fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes `folder` and the absent ones above it, all of them durably.
pub(crate) fn make_folders(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => FsPath::new("."),
        Some(above) => above,
        None => return Err(ErrorKind::NotFound.into()),
    };
    make_folders(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => sync_folder(above),
    }
}

fn is_leftover(name: &str) -> bool {
    // Exactly the names that `LocalFileSystem` hides, so that no visible object is ever swept.
    name.split_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn parent(target: &FsPath) -> io::Result<&FsPath> {
    target.parent().ok_or_else(|| ErrorKind::InvalidInput.into())
}

fn failed(source: io::Error) -> Error {
    Error::Generic { store: "DurableLocal", source: Box::new(source) }
}

fn refused(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "DurableLocal".into() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// A listing in the order of paths, as object storage gives it: the Delta kernel takes a log that
/// comes in another order for one with gaps. A folder's own order is arbitrary.
fn sorted(
    listing: BoxStream<'static, Result<ObjectMeta>>,
    disk: Arc<Disk>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let whole = async move {
        let mut found: Vec<ObjectMeta> = listing.try_collect().await?;
        if found.is_empty() {
            disk.check_root().map_err(failed)?;
        }
        found.sort_by(|one, other| one.location.cmp(&other.location));
        Ok::<_, object_store::Error>(futures::stream::iter(found.into_iter().map(Ok)))
    };
    futures::stream::once(whole).try_flatten().boxed()
}

//! Where a server's ledger lies until it is sealed: `audit/journal/<server>-<number>.jsonl`.
//!
//! What it is: on a local disk segments of JSON lines, appended to and synced; on other stores
//! one object for each batch. Either begins with a header line; the rows are [`super::stored`]'s.
//! What it guarantees: after a failure nothing is appended to the same segment, since what the
//! disk holds of it is unknown; the next begins with the number after the last durable line. A
//! failure that lasts leaves no files behind and takes no names that would be missed later.
//! What it does not: a line cut off at the end of a segment is passed over by readers, as it was
//! never durable; anywhere else it is an error.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FsPath, PathBuf};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::stored::{self, FORMAT, Head, Header, Linked, What, corrupted};
use crate::environment::{Environment, make_folders, step, sync_folder};
use crate::error::{Error, Kind, Result};

/// A segment this long is followed by a new one.
pub(super) const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FOLDER: &str = "audit/journal";
/// So many names already taken are stepped over; more means that another server has this name.
const NAMES_TAKEN_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Journal {
    server: String,
    next_number: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Disk { folder: PathBuf, segment: Option<Segment>, segment_bytes_max: u64 },
    Objects { environment: Environment },
}

#[derive(Debug)]
struct Segment {
    file: File,
    length: u64,
    durable_length: u64,
}

/// A stored segment.
#[derive(Debug)]
pub(super) struct Stored {
    pub header: Header,
    /// In order, each with its body; the first has the header's sequence.
    pub links: Vec<Linked>,
    pub bytes: usize,
}

impl Journal {
    /// The journal of `server`, and the head of the chain as it says it; `None` where it holds no
    /// link.
    pub(super) async fn open(
        environment: &Environment,
        server: &str,
        segment_bytes_max: u64,
    ) -> Result<(Journal, Option<Head>)> {
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
        if server.is_empty() || !server.chars().all(plain) {
            let message = format!("invalid name for a server: \"{server}\"");
            return Err(Error::new(Kind::InvalidParameterValue, message)
                .with_hint("Use letters, digits, \"_\" and \"-\"."));
        }
        let numbers = segments(environment).await?.remove(server).unwrap_or_default();
        let next_number = numbers.last().map_or(0, |last| last.saturating_add(1));
        let (mut head, mut void_from) = (None, u64::MAX);
        for number in numbers.into_iter().rev() {
            let Some(stored) = read_segment(environment, server, number).await? else { continue };
            let last = stored.links.iter().rfind(|link| link.sequence < void_from);
            if let Some(link) = last {
                let hash = stored::digest(&link.link);
                head = Some(Head { next: link.sequence.saturating_add(1), hash });
                break;
            }
            void_from = void_from.min(stored.header.first_sequence);
        }
        let place = match environment.local_root() {
            Some(root) => {
                Place::Disk { folder: root.join(FOLDER), segment: None, segment_bytes_max }
            }
            None => Place::Objects { environment: environment.clone() },
        };
        Ok((Journal { server: server.to_owned(), next_number, place }, head))
    }

    /// The number of the segment that the next append begins, when the present one is given up.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether the next append goes to where the last one went.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.place, Place::Disk { segment: Some(_), .. })
    }

    /// Sees to it that the next append goes to a new place.
    pub(super) fn give_up(&mut self) {
        if let Place::Disk { segment, .. } = &mut self.place {
            *segment = None;
        }
    }

    /// Appends whole lines, the first of what is not durable yet being number `sequence`, and
    /// says whether all appended so far is durable now; it is if `sync`.
    pub(super) async fn append(
        &mut self,
        lines: Vec<u8>,
        sequence: u64,
        sync: bool,
    ) -> Result<bool> {
        let header =
            Header { format: FORMAT, server: self.server.clone(), first_sequence: sequence };
        let mut head = serde_json::to_vec(&header)?;
        head.push(b'\n');
        match &mut self.place {
            Place::Objects { environment } => {
                head.extend(lines);
                put(environment, &self.server, &mut self.next_number, head).await?;
                Ok(true)
            }
            Place::Disk { folder, segment, segment_bytes_max } => {
                let (folder, server, max) =
                    (folder.clone(), self.server.clone(), *segment_bytes_max);
                // While it is away the segment is `None`: should the thread panic, what follows
                // starts a new one.
                let (taken, mut number) = (segment.take(), self.next_number);
                let work = move || {
                    let written = match taken {
                        Some(open) => write(open, &lines, sync),
                        None => {
                            head.extend(lines);
                            begin(&folder, &server, &mut number, &head)
                        }
                    };
                    (written, number)
                };
                let (written, number) =
                    tokio::task::spawn_blocking(work).await.map_err(|error| {
                        Error::internal("writing the audit journal failed").with_source(error)
                    })?;
                self.next_number = number;
                let open = written?;
                let durable = open.length == open.durable_length;
                *segment = (!durable || open.length < max).then_some(open);
                Ok(durable)
            }
        }
    }
}

/// A new segment that holds `bytes`, durably, under the first free number from `number` on, which
/// is then the one after it.
///
/// # Why a failed one is removed
/// While a disk is full every statement tries anew; files that hold nothing would be without end.
fn begin(folder: &FsPath, server: &str, number: &mut u64, bytes: &[u8]) -> io::Result<Segment> {
    make_folders(folder)?;
    let (file, path) = create(folder, server, number)?;
    let segment = Segment { file, length: 0, durable_length: 0 };
    let begun = write(segment, bytes, true).and_then(|open| sync_folder(folder).map(|()| open));
    if begun.is_err()
        && let Err(error) = fs::remove_file(&path)
    {
        tracing::warn!(%error, "an audit journal that could not be begun stays, void");
    }
    begun
}

fn create(folder: &FsPath, server: &str, number: &mut u64) -> io::Result<(File, PathBuf)> {
    for _ in 0..NAMES_TAKEN_MAX {
        let path = folder.join(file_name(server, *number));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => {
                *number = number.saturating_add(1);
                return Ok((file, path));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                *number = number.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Appends; on failure the segment is cut back to what is known to be durable, and given up.
fn write(mut segment: Segment, bytes: &[u8], sync: bool) -> io::Result<Segment> {
    let appended = segment.file.write_all(bytes);
    step();
    let outcome = appended.and_then(|()| if sync { segment.file.sync_data() } else { Ok(()) });
    step();
    match outcome {
        Ok(()) => {
            segment.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if sync {
                segment.durable_length = segment.length;
            }
            Ok(segment)
        }
        Err(error) => {
            if let Err(error) = segment.file.set_len(segment.durable_length) {
                tracing::warn!(%error, "a failed batch stays in the audit journal, void");
            }
            Err(error)
        }
    }
}

/// Stores a batch under the first free number from `number` on, which is then the one after it.
async fn put(
    environment: &Environment,
    server: &str,
    number: &mut u64,
    bytes: Vec<u8>,
) -> Result<()> {
    let bytes = bytes::Bytes::from(bytes);
    for _ in 0..NAMES_TAKEN_MAX {
        let location = location(server, *number);
        let options = PutOptions::from(PutMode::Create);
        match environment.store().put_opts(&location, bytes.clone().into(), options).await {
            Ok(_) => {
                *number = number.saturating_add(1);
                return Ok(());
            }
            // Perhaps an attempt of ours that was thought to have failed: this one voids it.
            Err(object_store::Error::AlreadyExists { .. }) => *number = number.saturating_add(1),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(Kind::Io, format!("another server writes the audit journal of {server}")))
}

/// The numbers of the stored segments, in order, by server.
pub(super) async fn segments(environment: &Environment) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut listed = environment.store().list(Some(&Path::from(FOLDER)));
    while let Some(object) = listed.try_next().await? {
        let name = object.location.filename().and_then(|name| name.strip_suffix(".jsonl"));
        let Some((server, number)) = name.and_then(|name| name.rsplit_once('-')) else { continue };
        if let Ok(number) = number.parse() {
            found.entry(server.to_owned()).or_default().push(number);
        }
    }
    found.values_mut().for_each(|numbers| numbers.sort_unstable());
    Ok(found)
}

/// What a segment says; `None` where it is gone, or not even its header was finished.
pub(super) async fn read_segment(
    environment: &Environment,
    server: &str,
    number: u64,
) -> Result<Option<Stored>> {
    let location = location(server, number);
    let bytes = match environment.store().get(&location).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // What follows the last line end was cut off while it was written.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').and_then(|end| bytes.get(..end));
    let Some(whole) = whole else { return Ok(None) };
    let mut rows = whole.split(|byte| *byte == b'\n');
    let header = header(rows.next().unwrap_or_default(), &location)?;
    if header.server != server {
        let message = format!("the audit journal {location} says that it is of another server");
        return Err(Error::new(Kind::DataCorrupted, message));
    }
    let links = linked(server, header.first_sequence, rows)?;
    Ok(Some(Stored { header, links, bytes: bytes.len() }))
}

/// Removes a segment whose every link is kept elsewhere.
pub(super) async fn remove_segment(
    environment: &Environment,
    server: &str,
    number: u64,
) -> Result<()> {
    match environment.store().delete(&location(server, number)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts another text in the place of a segment that nobody appends to.
pub(super) async fn replace_segment(
    environment: &Environment,
    server: &str,
    number: u64,
    stored: &Stored,
) -> Result<()> {
    let mut bytes = serde_json::to_vec(&stored.header)?;
    bytes.push(b'\n');
    for link in &stored.links {
        for row in link.body.iter().chain([&link.link]) {
            bytes.extend(row);
            bytes.push(b'\n');
        }
    }
    environment.store().put(&location(server, number), bytes.into()).await?;
    Ok(())
}

fn header(bytes: &[u8], location: &Path) -> Result<Header> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let broken = |error| {
        Error::new(Kind::DataCorrupted, format!("the audit journal {location} does not parse"))
            .with_source(error)
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(broken)?;
    if format == FORMAT {
        return serde_json::from_slice(bytes).map_err(broken);
    }
    let hint = match format {
        1 => {
            "An earlier Kho wrote it, without a chain. Move the folder audit/journal elsewhere to \
             keep it, a text of JSON lines, and start anew."
        }
        _ => "A newer Kho wrote it; upgrade this server.",
    };
    let message = format!("the audit journal {location} has format {format}");
    Err(Error::unsupported(message).with_hint(hint))
}

/// The links among rows, numbered from `first` on, each with its body. A row that is none is
/// `XX001`, and so is one out of its place.
pub(super) fn linked<'a>(
    server: &str,
    first: u64,
    rows: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Linked>> {
    let mut links: Vec<Linked> = Vec::new();
    let mut body = None;
    let mut expected = first;
    for bytes in rows {
        let row =
            stored::row(bytes).ok_or_else(|| corrupted(server, expected, "does not parse"))?;
        match row.what {
            What::Body(sequence) if sequence == expected && body.is_none() => {
                body = Some(row.bytes);
            }
            What::Link(sequence) if sequence == expected => {
                let (body, beside) = (body.take(), None);
                links.push(Linked { sequence, link: row.bytes, body, beside });
                expected = expected.saturating_add(1);
            }
            // A body that comes behind its link has left that one without.
            What::Body(sequence) if sequence < expected => {
                return Err(corrupted(server, sequence, "lacks its body"));
            }
            What::Body(_) | What::Link(_) => {
                return Err(corrupted(server, expected, "is missing or not in its place"));
            }
        }
    }
    Ok(links)
}

fn location(server: &str, number: u64) -> Path {
    Path::from(format!("{FOLDER}/{}", file_name(server, number)))
}

fn file_name(server: &str, number: u64) -> String {
    format!("{server}-{number:010}.jsonl")
}

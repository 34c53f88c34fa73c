//! What a statement gives back: rows as a stream, a tag, or the two ends of a `COPY`.
//!
//! What it guarantees: rows are a stream that stops when the session's statement is cancelled or
//! its time is over, and that owns what it needs; dropping it stops the work behind it. None is
//! given once what it stands on has ended.
//! What it does not: it encodes nothing; a wire does.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use tokio::time::Instant;

use crate::authorize::standing::{SessionWatch, Standing};
use crate::bind::is_open;
use crate::copy::{CopyIn, CopyOptions};
use crate::settings::Settings;

/// What running a statement gave.
pub enum Outcome {
    /// Rows, to be sent as they come.
    Rows(Rows),
    /// Done; nothing but a command tag.
    Done(Tag),
    /// `COPY … FROM STDIN`: feed batches into it, then give it to `Session::finish_copy`.
    CopyIn(Box<CopyIn>),
    /// `COPY … TO STDOUT`: rows to be written in the format the options say.
    CopyOut(Rows, CopyOptions),
    /// The statement was empty.
    Empty,
}

impl Outcome {
    /// Whether it ended a transaction without keeping what it did.
    pub(crate) fn rolled_back(&self) -> bool {
        matches!(self, Outcome::Done(tag) if tag.command == "ROLLBACK")
    }
}

/// A stream of batches that all have [`Rows::schema`].
pub struct Rows {
    pub schema: SchemaRef,
    /// The command that the tag names when all rows are out: `SELECT`, `FETCH`, `EXPLAIN`, …
    pub command: &'static str,
    /// Until when they must be out.
    pub deadline: Deadline,
    pub(crate) demand: Demand,
    /// `None` for rows that are nobody's data.
    standing: Option<Standing>,
    stream: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
}

impl Rows {
    pub fn new(
        schema: SchemaRef,
        command: &'static str,
        stream: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Rows {
        let (deadline, demand) = (Deadline::default(), Demand::default());
        Rows { schema, command, deadline, demand, standing: None, stream: Box::pin(stream) }
    }

    /// The same rows, asked for through `demand`.
    pub(crate) fn asked_by(self, demand: Demand) -> Rows {
        Rows { demand, ..self }
    }

    /// Asks for no more than `rows` with the next batch, which is what counts as given.
    pub fn ask_for(&self, rows: u64) {
        self.demand.0.store(rows.max(1), Ordering::Relaxed);
    }

    /// The same rows, given only while `standing` holds.
    #[must_use]
    pub(crate) fn standing_on(self, standing: Option<Standing>) -> Rows {
        Rows { standing, ..self }
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.standing.clone()
    }

    /// Whether rows that were taken from here earlier may still be given.
    ///
    /// # Errors
    /// What the statement would be refused with now.
    pub fn check(&mut self) -> Result<()> {
        self.standing.as_mut().map_or(Ok(()), Standing::check)
    }

    /// The same for a session that by now says something else of its use of data.
    pub(crate) fn restate(&mut self, settings: &Settings) -> Result<()> {
        self.standing.as_mut().map_or(Ok(()), |standing| standing.restate(settings))
    }

    /// The same rows, which must be out by `deadline`.
    #[must_use]
    pub fn until(self, deadline: Deadline) -> Rows {
        Rows { deadline, ..self }
    }

    /// The same rows, with something that lives until they end or are dropped.
    pub(crate) fn keeping(self, kept: impl Send + 'static) -> Rows {
        let Rows { schema, command, deadline, demand, standing, stream } = self;
        let state = (stream, Some(kept));
        let stream = futures::stream::unfold(state, |(mut stream, mut kept)| async move {
            let next = stream.next().await;
            if next.is_none() {
                kept = None;
            }
            next.map(|batch| (batch, (stream, kept)))
        });
        Rows { schema, command, deadline, demand, standing, stream: Box::pin(stream) }
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.stream.as_mut().poll_next(cx));
        if let Some(Ok(_)) = &next
            && let Err(error) = self.check()
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(next)
    }
}

/// How many rows whoever takes them wants with the next batch. Copies are one.
#[derive(Clone)]
pub(crate) struct Demand(Arc<AtomicU64>);

impl Default for Demand {
    fn default() -> Self {
        Demand(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Demand {
    /// `rows` in batches that are no larger than what is asked for; the rest waits here.
    pub(crate) fn portions(
        &self,
        rows: Rows,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        let state = (rows, None::<RecordBatch>, self.clone());
        futures::stream::unfold(state, |(mut rows, rest, demand)| async move {
            let next = match rest {
                // The client may have been away for long.
                Some(rest) => rows.check().map(|()| rest),
                None => rows.next().await?,
            };
            let Ok(batch) = next else { return Some((next, (rows, None, demand))) };
            let most = usize::try_from(demand.0.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            let count = batch.num_rows().min(most);
            let left = batch.num_rows() - count;
            let rest = (left > 0).then(|| batch.slice(count, left));
            Some((Ok(batch.slice(0, count)), (rows, rest, demand)))
        })
    }
}

/// When the time of a statement is over: what its session gave it, and what its role has, by the
/// newest catalog. A client that comes back for more rows of a portal has time anew, so it can be
/// moved on; all copies are one.
#[derive(Clone, Default)]
pub struct Deadline {
    time: Arc<Mutex<Option<Time>>>,
    session: Option<SessionWatch>,
}

/// Since when a statement goes on, and for how long it may; 0 is without end.
#[derive(Clone, Copy)]
struct Time {
    began: Instant,
    timeout_ms: u64,
}

impl Deadline {
    /// `timeout_ms` from now on, or less where the role has less.
    pub(crate) fn of(session: Option<SessionWatch>, timeout_ms: u64) -> Deadline {
        let deadline = Deadline { time: Arc::default(), session };
        deadline.renew(timeout_ms);
        deadline
    }

    /// The statement has `timeout_ms` from now on; 0 is without end.
    pub fn renew(&self, timeout_ms: u64) {
        let time = Time { began: Instant::now(), timeout_ms };
        *self.time.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    /// Returns when it has passed, with what the client is told.
    pub async fn passed(&self) -> Error {
        let time = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Time { began, timeout_ms }) = time else { return std::future::pending().await };
        let mut session = self.session.clone();
        loop {
            // Before it is looked at, so that no change is missed.
            let of_role = session.as_mut().and_then(SessionWatch::time_limit);
            let is_tighter = |of_role: u64| timeout_ms == 0 || of_role < timeout_ms;
            let of_role = of_role.filter(|(of_role, _)| is_tighter(*of_role));
            let limit_ms = of_role.as_ref().map_or(timeout_ms, |(limit_ms, _)| *limit_ms);
            let changed = async {
                match &mut session {
                    Some(session) => session.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = over(began, limit_ms) => {
                    let message = "canceling statement due to statement timeout";
                    let error = Error::new(Kind::QueryCanceled, message);
                    return match of_role {
                        Some((_, limit)) => error.with_detail(limit),
                        None => error,
                    };
                }
                () = changed => {}
            }
        }
    }
}

async fn over(began: Instant, limit_ms: u64) {
    match limit_ms {
        0 => std::future::pending().await,
        limit_ms => tokio::time::sleep_until(began + Duration::from_millis(limit_ms)).await,
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").finish_non_exhaustive()
    }
}

/// A command tag: what was done, and to how many rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub command: String,
    pub rows: Option<u64>,
}

impl Tag {
    pub fn new(command: impl Into<String>) -> Tag {
        Tag { command: command.into(), rows: None }
    }

    pub fn with_rows(command: impl Into<String>, rows: u64) -> Tag {
        Tag { command: command.into(), rows: Some(rows) }
    }
}

/// PostgreSQL's spelling, `INSERT 0 3`, `SELECT 3`, `CREATE TABLE`.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            Some(rows) if self.command == "INSERT" => write!(f, "INSERT 0 {rows}"),
            Some(rows) => write!(f, "{} {rows}", self.command),
            None => f.write_str(&self.command),
        }
    }
}

/// What a statement takes and gives, before it is run.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The types of `$1`, `$2`, …
    pub parameters: Vec<Type>,
    /// Which of them are guesses: of what the client sends the type is taken, where it has one.
    pub open: Vec<bool>,
    /// Those of them that are an `oid` or an array of them, by PostgreSQL's number of that.
    pub numbers: Vec<Option<u32>>,
    /// The columns of the rows it will give; `None` for a statement without rows.
    pub columns: Option<SchemaRef>,
}

impl Description {
    /// What is told of these parameters and columns.
    pub(crate) fn of(parameters: Vec<Option<FieldRef>>, columns: Option<SchemaRef>) -> Description {
        Description {
            numbers: parameters.iter().map(|it| it.as_deref().and_then(number)).collect(),
            parameters: parameters.iter().map(|it| parameter_type(it.as_deref())).collect(),
            open: parameters.iter().map(|it| is_open(it.as_deref())).collect(),
            columns,
        }
    }
}

/// About how many bytes the values of `batch` are: not what lies beside them in its buffers.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| {
        let views = size_of::<u128>() * column.len();
        match column.data_type() {
            DataType::Utf8View => views + column.as_string_view().total_buffer_bytes_used(),
            DataType::BinaryView => views + column.as_binary_view().total_buffer_bytes_used(),
            // What cannot tell is what it keeps.
            _ => (column.to_data().get_slice_memory_size())
                .unwrap_or_else(|_| column.get_array_memory_size()),
        }
    };
    batch.columns().iter().map(of).sum()
}

/// The type of a parameter's values; text where nothing tells.
pub(crate) fn parameter_type(field: Option<&Field>) -> Type {
    let Some(field) = field else { return Type::Text };
    match number(field) {
        Some(OID) => Type::BigInt,
        Some(_) => Type::Array(Box::new(Type::BigInt)),
        None => Type::from_field(field).unwrap_or(Type::Text),
    }
}

const OID: u32 = 26;
const OID_ARRAY: u32 = 1028;

/// The number of a parameter's type, where it is an `oid`.
fn number(field: &Field) -> Option<u32> {
    match field.data_type() {
        DataType::UInt32 => Some(OID),
        DataType::List(element) if element.data_type() == &DataType::UInt32 => Some(OID_ARRAY),
        _ => None,
    }
}

/// Something a client should be told that is not an error.
#[derive(Clone, Debug)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, …
    pub severity: &'static str,
    pub sqlstate: &'static str,
    pub message: String,
}

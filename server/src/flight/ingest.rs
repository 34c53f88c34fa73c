//! Bulk loads: a client's stream of Arrow data into a table, by `CommandStatementIngest` or by a path.
//!
//! What it guarantees: rows go by the names of their columns, whatever the order; columns that are
//! not sent have their defaults. A load is one commit, the table's `CREATE` or the removal of its
//! old rows included, and it is not there at all unless the client ended its stream. With a stream
//! and a number of it in the headers a load is applied once: sent again, it is success and nothing
//! more, also where it was to make its table. Of one role's loads that come at once to one server, and make
//! the same table where there is none, one makes it and the others find it.
//! What it does not: across roles and servers the later of those is told to come again (`40001`). A load that
//! replaces a table replaces its rows. The table stays, with its history, its policies, masks and
//! grants: a loader that could drop those by loading would be past every rule. Rows that are added keep
//! nobody from the table while they come; but a load that replaces has removed the old ones by its first
//! batch, and others wait for the table until it ends: a client that falls silent holds it for as long
//! as its silence is borne, and no client for longer than its `statement_timeout`.
//! On failure: the session is as usable as after any statement that fails, an open block has failed.

mod arrive;
mod define;

use std::time::Instant;

use arrow::datatypes::Schema;
use arrow_flight::sql::{
    CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::copy::CopyIn;
use kho_sql::outcome::{Outcome, Tag};
use kho_sql::session::{DATABASE, Session, TransactionStatus};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

pub use arrive::Arriving;
pub(in crate::flight) use arrive::broken_off;

use crate::flight::error::canceled;
use crate::flight::name::{RelationName, column};
use crate::flight::run::{self, values};

/// Where a load goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub table: RelationName,
    /// Whether the table is made where there is none.
    pub creates: bool,
    pub existing: Existing,
}

/// What becomes of a table that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Rows are added.
    Append,
    /// Its rows are replaced.
    Replace,
    /// The load fails.
    Fail,
}

/// The load that a client says its rows are, as its headers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadName {
    pub stream: String,
    pub sequence: String,
}

/// What a load came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub rows: u64,
    /// The table's version with the rows in it; `None` where a transaction is still open.
    pub version: Option<u64>,
    pub duration_ms: u64,
}

impl Target {
    /// What a client's command asks for.
    ///
    /// # Errors
    /// `0A000` for what Kho does not do, `3D000` for another catalog, `22023` for no choice or for
    /// one by which no rows could be loaded.
    pub fn of_command(command: &CommandStatementIngest) -> Result<Target> {
        if command.temporary {
            return Err(Error::unsupported("temporary tables are not supported"));
        }
        if let Some(catalog) = command.catalog.as_deref().filter(|it| *it != DATABASE) {
            let message = format!("database \"{catalog}\" does not exist");
            return Err(Error::new(Kind::UndefinedDatabase, message)
                .with_hint(format!("The one database is \"{DATABASE}\".")));
        }
        if let Some(option) = command.options.keys().min() {
            return Err(Error::unsupported(format!("ingest option \"{option}\" is not supported")));
        }
        let options = command.table_definition_options.unwrap_or_default();
        let (creates, existing) = choice(options)?;
        let table = RelationName::new(command.schema.clone(), command.table.clone())?;
        Ok(Target { table, creates, existing })
    }

    /// Rows that are added to a table that is there.
    pub fn append(table: RelationName) -> Target {
        Target { table, creates: false, existing: Existing::Append }
    }

    /// How many statements it takes: one that is alone need be no block.
    fn is_plain_append(&self) -> bool {
        !self.creates && self.existing == Existing::Append
    }
}

fn choice(options: TableDefinitionOptions) -> Result<(bool, Existing)> {
    let invalid = |message: &str| Error::new(Kind::InvalidParameterValue, message);
    let creates = match options.if_not_exist() {
        TableNotExistOption::Create => true,
        TableNotExistOption::Fail => false,
        TableNotExistOption::Unspecified => {
            return Err(invalid("an ingest must say what becomes of a table that does not exist"));
        }
    };
    let existing = match options.if_exists() {
        TableExistsOption::Append => Existing::Append,
        TableExistsOption::Replace => Existing::Replace,
        TableExistsOption::Fail => Existing::Fail,
        TableExistsOption::Unspecified => {
            return Err(invalid("an ingest must say what becomes of a table that exists"));
        }
    };
    match (creates, existing) {
        (false, Existing::Fail) => {
            Err(invalid("an ingest that fails with the table and without it loads nothing"))
        }
        choice => Ok(choice),
    }
}

/// Loads what arrives: in the session's open block where there is one, else as a commit of its own.
pub async fn ingest(
    session: &mut Session,
    target: &Target,
    load: Option<&LoadName>,
    mut arriving: Arriving,
    stop: &CancellationToken,
) -> Result<Loaded> {
    let began = Instant::now();
    let named = match load {
        Some(load) => match session.name_load([&load.stream, &load.sequence]) {
            Ok(before) => Some(before),
            Err(error) => return Err(refused(session, error).await),
        },
        None => None,
    };
    let in_block = session.status() != TransactionStatus::Idle;
    // Kept until the table is there.
    let mut turn = None;
    let loaded = match in_block || target.is_plain_append() {
        true if in_block && load.is_some() => {
            load_once(session, target, load, &mut arriving, stop).await
        }
        true => load_rows(session, target, load, &mut arriving, &mut turn, stop).await,
        false => {
            session.begin_implicit();
            let loaded = load_rows(session, target, load, &mut arriving, &mut turn, stop).await;
            let ended = session.end_implicit(loaded.is_err()).await;
            let ended = ended.map_err(|error| made_meanwhile(target, load, error));
            loaded.and_then(|loaded| ended.map(|()| loaded))
        }
    };
    drop(turn);
    if let Some([stream, sequence]) = named {
        session.name_load([&stream, &sequence])?;
    }
    let (tag, found) = loaded?;
    Ok(Loaded {
        rows: tag.rows.unwrap_or_default(),
        // A load of no rows, and one that was applied before, leave the table as it was found.
        version: session.committed_version().or(found.filter(|_| !in_block)),
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// [`load_rows`] in an open block, which may have taken the load already: then it is success, and nothing
/// more. A load that came before the block is known by its table.
async fn load_once(
    session: &mut Session,
    target: &Target,
    load: Option<&LoadName>,
    arriving: &mut Arriving,
    stop: &CancellationToken,
) -> Result<(Tag, Option<u64>)> {
    let table = target.table.quoted();
    let name = |oid: String| format!("{oid} {load:?}");
    let before = oid(session, &table, stop).await?.map(name);
    if before.is_some_and(|it| session.has_taken(&it)) {
        // It is as allowed, as recorded and as checked as any other; its rows are dropped.
        let schema = arriving.schema().clone();
        let copy = begin(session, target, &schema, stop).await?;
        return copied(session, copy, None, (arriving, Taken::Before), stop).await;
    }
    let mut turn = None;
    let loaded = load_rows(session, target, load, arriving, &mut turn, stop).await?;
    if let Some(taken) = oid(session, &table, stop).await?.map(name) {
        session.note_load(taken);
    }
    Ok(loaded)
}

/// What was loaded, and the version that was found.
async fn load_rows(
    session: &mut Session,
    target: &Target,
    load: Option<&LoadName>,
    arriving: &mut Arriving,
    turn: &mut Option<OwnedMutexGuard<()>>,
    stop: &CancellationToken,
) -> Result<(Tag, Option<u64>)> {
    // A client that says what it will send, and then nothing, keeps nobody from a table that it would
    // replace.
    let first = tokio::select! {
        biased;
        error = session.ended() => Err(error),
        first = arriving.next_until(stop) => first,
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => return Err(refused(session, error).await),
    };
    // Of those that come at once one makes the table; the others look when it is there. What an open
    // block makes is not there before the block ends, which may be long after this.
    if target.creates && session.status() == TransactionStatus::Idle {
        let RelationName { schema, name } = &target.table;
        let waiting = session.turn_to_make(schema.as_deref(), name);
        let ended = session.ended();
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => Err(canceled()),
            error = ended => Err(error),
            taken = waiting => taken,
        };
        match taken {
            Ok(taken) => *turn = Some(taken),
            Err(error) => return Err(refused(session, error).await),
        }
    }
    let schema = arriving.schema().clone();
    let copy = prepare(session, target, load, &schema, turn, stop).await?;
    copied(session, copy, first, (arriving, Taken::Now), stop).await
}

/// Whether rows are those of a load that the block has taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Before,
    Now,
}

/// Gives `copy` what arrives, and ends it.
async fn copied(
    session: &mut Session,
    copy: CopyIn,
    first: Option<arrow::array::RecordBatch>,
    arriving: (&mut Arriving, Taken),
    stop: &CancellationToken,
) -> Result<(Tag, Option<u64>)> {
    let mut copy = Box::new(copy);
    match feed(session, &mut copy, first, arriving, stop).await {
        Ok(()) => {
            let tag = session.finish_copy(&mut copy).await?;
            Ok((tag, Some(copy.found_version())))
        }
        Err(error) => {
            session.abort_copy(*copy, &error);
            Err(error)
        }
    }
}

/// Makes the table or empties it, where that is asked for, and begins the `COPY`.
async fn prepare(
    session: &mut Session,
    target: &Target,
    load: Option<&LoadName>,
    schema: &Schema,
    turn: &mut Option<OwnedMutexGuard<()>>,
    stop: &CancellationToken,
) -> Result<CopyIn> {
    let table = target.table.quoted();
    let is_there = !target.creates || exists(session, &table, stop).await?;
    if is_there && target.existing == Existing::Append {
        *turn = None;
    }
    match (is_there, target.existing) {
        (false, _) => {
            let create = match define::create_table(&target.table, schema) {
                Ok(create) => create,
                Err(error) => return Err(refused(session, error).await),
            };
            for statement in create {
                run::done(session, &statement, stop).await?;
            }
        }
        (true, Existing::Replace) => {
            run::done(session, &format!("TRUNCATE {table}"), stop).await?;
        }
        // The same load, sent again, finds the table that it has made.
        (true, Existing::Fail) if load.is_some() => {
            let copy = begin(session, target, schema, stop).await?;
            if copy.is_applied() {
                return Ok(copy);
            }
            let error = already_there(&target.table);
            session.abort_copy(copy, &error);
            return Err(error);
        }
        (true, Existing::Fail) => {
            return Err(refused(session, already_there(&target.table)).await);
        }
        (true, Existing::Append) => {
            // Nothing is to be committed with the rows, so they need not see the table as it was
            // before the first of them came, and go behind whatever others committed meanwhile.
            if session.status() == TransactionStatus::Idle {
                session.end_implicit(false).await?;
            }
        }
    }
    begin(session, target, schema, stop).await
}

/// An error that no statement has met: it fails an open block, and is in the ledger before it is told.
async fn refused(session: &mut Session, error: Error) -> Error {
    session.fail();
    session.refuse(None, error).await
}

/// What a commit says that was to make the table and found it made: by another server, or by a
/// statement. The rows are gone, so it is the client that begins again; it then finds the table.
fn made_meanwhile(target: &Target, load: Option<&LoadName>, error: Error) -> Error {
    // A load that is named may have made it itself, sent a second time.
    let is_told = target.existing == Existing::Fail && load.is_none();
    if error.kind() != Kind::DuplicateTable || !target.creates || is_told {
        return error;
    }
    let message = format!("relation \"{}\" was made while it was loaded", target.table.name);
    Error::new(Kind::SerializationFailure, message).with_hint("Send the load again.")
}

fn already_there(table: &RelationName) -> Error {
    Error::new(Kind::DuplicateTable, format!("relation \"{}\" already exists", table.name))
}

async fn exists(session: &mut Session, table: &str, stop: &CancellationToken) -> Result<bool> {
    oid(session, table, stop).await.map(|oid| oid.is_some())
}

/// The id of a table that is there, as text.
async fn oid(
    session: &mut Session,
    table: &str,
    stop: &CancellationToken,
) -> Result<Option<String>> {
    let text = "SELECT pg_catalog.to_regclass($1)::oid::text";
    let table = ScalarValue::Utf8(Some(table.to_owned()));
    let batches = run::rows(session, text, &[table], stop).await?;
    let mut all = batches.iter().flat_map(|batch| values::texts(batch, 0));
    Ok(all.next().flatten())
}

async fn begin(
    session: &mut Session,
    target: &Target,
    schema: &Schema,
    stop: &CancellationToken,
) -> Result<CopyIn> {
    if schema.fields().is_empty() {
        let error = Error::new(Kind::InvalidParameterValue, "a load needs columns");
        return Err(refused(session, error).await);
    }
    let columns: Vec<String> = schema.fields().iter().map(|it| column(it.name())).collect();
    let text = format!("COPY {} ({}) FROM STDIN", target.table.quoted(), columns.join(", "));
    let begun = match run::one(session, &text, &[], stop).await {
        Ok(Outcome::CopyIn(copy)) => Ok(*copy),
        Ok(_) => Err(Error::internal("a COPY takes no rows")),
        Err(error) => Err(error),
    };
    let asks_for_others =
        |error: &Error| matches!(error.kind(), Kind::UndefinedColumn | Kind::DatatypeMismatch);
    begun.map_err(|error| match target.existing {
        Existing::Replace if asks_for_others(&error) && error.hint().is_none() => error.with_hint(
            "A load replaces a table's rows. Change its columns with ALTER TABLE, or drop it first.",
        ),
        _ => error,
    })
}

/// Gives the client's rows to the write path, up to the last one; those that were taken are checked.
async fn feed(
    session: &mut Session,
    copy: &mut CopyIn,
    first: Option<arrow::array::RecordBatch>,
    (arriving, taken): (&mut Arriving, Taken),
    stop: &CancellationToken,
) -> Result<()> {
    let fit = copy.fit(arriving.schema())?;
    let (deadline, ended) = (copy.deadline.clone(), session.ended());
    let feeding = async {
        let mut next = match first {
            None if taken == Taken::Before => arriving.next().await?,
            first => first,
        };
        while let Some(batch) = next {
            for piece in fit.pieces(&batch) {
                let piece = piece?;
                if taken == Taken::Now {
                    copy.write(piece).await?;
                }
                // A large batch is much work without anything to wait for.
                tokio::task::yield_now().await;
            }
            drop(batch);
            next = arriving.next().await?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            Err(canceled())
        }
        error = ended => Err(error),
        error = deadline.passed() => Err(error),
        fed = feeding => fed,
    }
}

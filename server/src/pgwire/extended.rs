//! The extended protocol: statements prepared once, portals run in parts.
//!
//! What it guarantees: all between two `Sync`s is one transaction; a portal with a row limit holds
//! its stream and goes on where it stopped; the number of statements and portals, and what they
//! hold, is bounded; rows always have the columns that were described.
//! What it does not: a prepared statement keeps no decision; each run is authorized anew.
//! On failure: the connection skips to the next `Sync`.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use kho_sql::outcome::{Description, Outcome, Rows};
use kho_sql::parse::Statement;
use kho_sql::session::TransactionStatus;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, CloseComplete, Execute, Parse, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::EmptyQueryResponse;
use tokio_util::sync::CancellationToken;

use crate::pgwire::backend::{number, row_description};
use crate::pgwire::connection::Connection;
use crate::pgwire::frontend::{Target, is_alone};
use crate::pgwire::rows::{Cursor, Reached, tag};
use crate::pgwire::value::{self, FormatCode};
use crate::pgwire::wire::Stop;

/// A statement that was parsed and described.
pub struct Prepared {
    /// `None` for an empty text.
    statement: Option<Statement>,
    description: Description,
    /// The types that the client stated; 0 where it left them to the server.
    stated: Vec<u32>,
    bytes: usize,
}

/// A statement with its parameters, before, while or after it runs.
pub struct Portal {
    bound: Arc<Bound>,
    progress: Progress,
}

struct Bound {
    prepared: Arc<Prepared>,
    parameters: Vec<ScalarValue>,
    /// One for each column.
    formats: Vec<FormatCode>,
    bytes: usize,
}

/// The type of a literal that has none yet.
const UNKNOWN: u32 = 705;

enum Progress {
    New,
    /// Rows are out up to the client's limit.
    Suspended {
        cursor: Box<Cursor>,
        stop: CancellationToken,
    },
    /// All rows are out.
    AllSent {
        command: &'static str,
    },
    /// Done, without rows.
    Done,
}

impl Prepared {
    /// A client that stated a type is told that very one: `varchar` and `text` are one type here,
    /// but not to JDBC.
    fn parameter_oids(&self) -> Vec<u32> {
        let told = self.description.parameters.iter().enumerate().map(|(index, of)| {
            let stated = self.stated.get(index).copied();
            let number = self.description.numbers.get(index).copied().flatten();
            let stated = stated.filter(|oid| !matches!(*oid, 0 | UNKNOWN));
            stated.or(number).unwrap_or(value::oid_of_type(of))
        });
        told.collect()
    }
}

impl Connection {
    /// What cannot be prepared is in the ledger before that is answered.
    pub(super) async fn parse(&mut self, parse: Parse) -> Result<(), Stop> {
        let name = parse.name.unwrap_or_default();
        let bytes = parse.query.len();
        if let Err(error) = self.make_place(&name, bytes) {
            return Err(self.session.refuse(None, error).await.into());
        }
        let mut statements = self.parsed(&parse.query).await?.into_iter();
        let statement = statements.next();
        let types = match statements.next() {
            None => stated_types(&parse.type_oids),
            Some(_) => {
                let message = "cannot insert multiple commands into a prepared statement";
                Err(Error::new(Kind::Syntax, message))
            }
        };
        let types = match types {
            Ok(types) => types,
            Err(error) => return Err(self.session.refuse(statement.as_ref(), error).await.into()),
        };
        let description = match &statement {
            Some(statement) => {
                let stop = self.starts();
                let work = self.session.describe(statement, &types, &stop);
                self.wire.attend(&stop, work).await??
            }
            None => Description::default(),
        };
        self.statements.insert(
            name,
            Arc::new(Prepared { statement, description, stated: parse.type_oids, bytes }),
        );
        self.wire.put(&ParseComplete::new())
    }

    /// What does not bind is in the ledger before that is answered.
    pub(super) async fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        let name = bind.statement_name.clone().unwrap_or_default();
        match self.bind_portal(bind) {
            Err(Stop::Failed(error)) => {
                let statement = self.statements.get(&name).cloned();
                let statement = statement.as_ref().and_then(|it| it.statement.as_ref());
                Err(self.session.refuse(statement, error).await.into())
            }
            done => done,
        }
    }

    fn bind_portal(&mut self, bind: Bind) -> Result<(), Stop> {
        let statement_name = bind.statement_name.as_deref().unwrap_or_default();
        let prepared = Arc::clone(self.prepared(statement_name)?);
        let name = bind.portal_name.clone().unwrap_or_default();
        if name.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&name) || self.session.cursor_columns(&name).is_some() {
            return Err(Error::new(
                Kind::DuplicateCursor,
                format!("cursor \"{name}\" already exists"),
            )
            .into());
        }
        let bytes = bind.parameters.iter().flatten().map(bytes::Bytes::len).sum();
        self.make_room(self.portals.len(), bytes)?;
        let parameters = self.parameters(&bind, statement_name, &prepared)?;
        let columns = prepared.description.columns.as_ref().map_or(0, |it| it.fields().len());
        let formats = spread(&bind.result_column_format_codes, columns, || {
            format!(
                "bind message has {} result formats but query has {columns} columns",
                bind.result_column_format_codes.len()
            )
        })?;
        let bound = Arc::new(Bound { prepared, parameters, formats, bytes });
        self.portals.insert(name, Portal { bound, progress: Progress::New });
        self.wire.put(&BindComplete::new())
    }

    pub(super) fn describe(&mut self, target: &Target) -> Result<(), Stop> {
        let (prepared, formats) = match target {
            Target::Statement(name) => {
                let prepared = Arc::clone(self.prepared(name)?);
                self.wire.put(&ParameterDescription::new(prepared.parameter_oids()))?;
                let columns =
                    prepared.description.columns.as_ref().map_or(0, |it| it.fields().len());
                (prepared, vec![FormatCode::Text; columns])
            }
            Target::Portal(name) => match self.portals.get(name) {
                Some(portal) => (Arc::clone(&portal.bound.prepared), portal.bound.formats.clone()),
                // A cursor that SQL declared is a portal, too.
                None => {
                    let schema = self.session.cursor_columns(name);
                    let schema = schema.ok_or_else(|| no_portal(name))?;
                    let formats = vec![FormatCode::Text; schema.fields().len()];
                    return self.wire.put(&row_description(&schema, &formats));
                }
            },
        };
        match &prepared.description.columns {
            Some(schema) => self.wire.put(&row_description(schema, &formats)),
            None => self.wire.put(&NoData::new()),
        }
    }

    pub(super) async fn execute(&mut self, execute: Execute) -> Result<(), Stop> {
        let name = execute.name.unwrap_or_default();
        // A portal that fails is gone; one that does not is put back.
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let bound = Arc::clone(&portal.bound);
        let Some(statement) = &bound.prepared.statement else {
            self.portals.insert(name, portal);
            return self.wire.put(&EmptyQueryResponse::new());
        };
        portal.progress = match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New => self.start(statement, &bound, execute.max_rows).await?,
            Progress::Suspended { cursor, stop } => {
                self.resumes(&stop);
                cursor.renew(self.session.statement_timeout_ms());
                self.send(cursor, stop, execute.max_rows).await?
            }
            Progress::AllSent { command } => {
                self.complete(Some(&tag(command, 0)))?;
                Progress::AllSent { command }
            }
            Progress::Done => {
                return Err(Error::new(
                    Kind::NotInPrerequisiteState,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
        };
        self.portals.insert(name, portal);
        Ok(())
    }

    pub(super) fn close(&mut self, target: &Target) -> Result<(), Stop> {
        match target {
            Target::Statement(name) => {
                if let Some(closed) = self.statements.remove(name) {
                    self.portals.retain(|_, portal| !Arc::ptr_eq(&portal.bound.prepared, &closed));
                }
            }
            Target::Portal(name) => {
                self.portals.remove(name);
            }
        }
        self.wire.put(&CloseComplete::new())
    }

    async fn start(
        &mut self,
        statement: &Statement,
        bound: &Bound,
        max_rows: i32,
    ) -> Result<Progress, Stop> {
        let idle = self.session.status() == TransactionStatus::Idle;
        if idle && !self.implicit && !is_alone(self.wire.unread()) {
            self.session.begin_implicit();
            self.implicit = true;
        }
        if let Some(tag) = self.deallocate(statement) {
            self.complete(Some(&tag))?;
            return Ok(Progress::Done);
        }
        let stop = self.starts();
        let work = self.session.run(statement, &bound.parameters, &stop);
        match self.wire.attend(&stop, work).await?? {
            Outcome::Rows(rows) => {
                check_columns(&bound.prepared.description, &rows)?;
                let format = self.session.value_format();
                let cursor = Cursor::try_new(rows, &bound.formats, &format)?;
                self.send(Box::new(cursor), stop, max_rows).await
            }
            other => {
                let tag = self.settle(other, &stop).await?;
                self.complete(tag.as_ref())?;
                Ok(Progress::Done)
            }
        }
    }

    async fn send(
        &mut self,
        mut cursor: Box<Cursor>,
        stop: CancellationToken,
        max_rows: i32,
    ) -> Result<Progress, Stop> {
        match cursor.send(&mut self.wire, max_rows, &stop).await? {
            Reached::End(sent) => {
                let command = cursor.command();
                self.complete(Some(&tag(command, sent)))?;
                Ok(Progress::AllSent { command })
            }
            Reached::Limit => {
                self.wire.put(&PortalSuspended::new())?;
                Ok(Progress::Suspended { cursor, stop })
            }
        }
    }

    fn prepared(&self, name: &str) -> Result<&Arc<Prepared>> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            Error::new(Kind::InvalidStatementName, message)
        })
    }

    fn parameters(
        &self,
        bind: &Bind,
        statement_name: &str,
        prepared: &Prepared,
    ) -> Result<Vec<ScalarValue>> {
        let (types, values) = (&prepared.description.parameters, &bind.parameters);
        if values.len() != types.len() {
            return Err(violation(format!(
                "bind message supplies {} parameters, but prepared statement \"{statement_name}\" \
                 requires {}",
                values.len(),
                types.len()
            )));
        }
        let formats = spread(&bind.parameter_format_codes, values.len(), || {
            format!(
                "bind message has {} parameter formats but {} parameters",
                bind.parameter_format_codes.len(),
                values.len()
            )
        })?;
        let format = self.session.value_format();
        let oids = prepared.parameter_oids();
        let given = values.iter().zip(formats).zip(types.iter().zip(oids));
        given
            .map(|((value, code), (of, oid))| {
                // An `oid` in binary is four bytes of the eight that it is here.
                let widened = match value.as_deref() {
                    Some(&[a, b, c, d]) if kho_sql::input::is_number(oid) => {
                        Some([0, 0, 0, 0, a, b, c, d])
                    }
                    _ => None,
                };
                let value = match &widened {
                    Some(eight) if code == FormatCode::Binary => Some(eight.as_slice()),
                    _ => value.as_deref(),
                };
                value::decode_parameter(value, number(code), of, &format)
            })
            .collect()
    }

    /// Takes away what is to be replaced, and refuses a name that is taken.
    fn make_place(&mut self, name: &str, bytes: usize) -> Result<()> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(Kind::DuplicateStatement, message));
        }
        self.make_room(self.statements.len(), bytes)
    }

    /// Refuses one more of what there are `count` of already, or `bytes` more.
    fn make_room(&self, count: usize, bytes: usize) -> Result<()> {
        let statements = self.statements.values().map(|prepared| prepared.bytes);
        let portals = self.portals.values().map(|portal| portal.bound.bytes);
        let held = statements.chain(portals).sum::<usize>().saturating_add(bytes);
        if count < self.limits.prepared && held <= self.limits.prepared_bytes {
            return Ok(());
        }
        Err(Error::new(
            Kind::ProgramLimitExceeded,
            "this connection holds too many prepared statements or portals",
        )
        .with_hint("Close those that are no longer needed, or use DISCARD ALL."))
    }
}

/// The types a client states; 0 and `unknown` leave it to the server.
fn stated_types(oids: &[u32]) -> Result<Vec<Option<Type>>> {
    let stated = oids.iter().map(|oid| match *oid {
        0 | UNKNOWN => Ok(None),
        oid => kho_sql::input::type_of_oid(oid).map(Some).ok_or_else(|| {
            Error::new(Kind::UndefinedObject, format!("type with OID {oid} does not exist"))
        }),
    });
    stated.collect()
}

/// One format for each of `count`: none stated is text for all, one is that one for all.
fn spread(codes: &[i16], count: usize, complaint: impl Fn() -> String) -> Result<Vec<FormatCode>> {
    let formats = codes.iter().map(|code| match code {
        0 => Ok(FormatCode::Text),
        1 => Ok(FormatCode::Binary),
        other => Err(Error::new(
            Kind::InvalidParameterValue,
            format!("unsupported format code: {other}"),
        )),
    });
    let formats = formats.collect::<Result<Vec<_>>>()?;
    match formats.as_slice() {
        [] => Ok(vec![FormatCode::Text; count]),
        [format] => Ok(vec![*format; count]),
        formats if formats.len() == count => Ok(formats.to_vec()),
        _ => Err(violation(complaint())),
    }
}

/// A table may have changed since the client was told the columns.
fn check_columns(description: &Description, rows: &Rows) -> Result<()> {
    let shape = |schema: &arrow::datatypes::SchemaRef| -> Vec<u32> {
        schema.fields().iter().map(|field| value::field_oid(field).oid).collect()
    };
    match &description.columns {
        Some(described) if shape(described) == shape(&rows.schema) => Ok(()),
        _ => Err(Error::unsupported("cached plan must not change result type")
            .with_hint("Prepare the statement again.")),
    }
}

fn no_portal(name: &str) -> Error {
    Error::new(Kind::InvalidCursorName, format!("portal \"{name}\" does not exist"))
}

fn violation(message: String) -> Error {
    Error::new(Kind::ProtocolViolation, message)
}

//! The one error type of Kho.
//!
//! What it is: an [`Error`] names a coarse [`Kind`], says what happened in PostgreSQL's style
//! (lower case, no full stop, the object named) and may add a detail, a hint and a position.
//! What it guarantees: every kind has exactly one SQLSTATE; foreign errors are translated once,
//! where they enter, and kept as the source for the trace, never shown to a client.
//! What it does not guarantee: that a message is free of data; whoever builds it decides that.

mod storage;

use std::fmt;

/// The result of every fallible operation in Kho.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, said so that a client can act on it.
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
    source: Option<Source>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $state:literal,)*) => {
        /// The class of an error; each has one SQLSTATE (PostgreSQL 15, appendix A).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind, so that maps over kinds can be tested to be whole.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// The five characters that clients match on.
            pub const fn sqlstate(self) -> &'static str {
                match self { $(Kind::$kind => $state,)* }
            }
        }
    };
}

kinds! {
    ProtocolViolation = "08P01",
    ConnectionFailure = "08006",
    FeatureNotSupported = "0A000",
    InvalidGrantor = "0L000",
    InvalidGrantOperation = "0LP01",
    CardinalityViolation = "21000",
    StringTooLong = "22001",
    NumericOutOfRange = "22003",
    NullValueNotAllowed = "22004",
    InvalidDatetime = "22007",
    DatetimeOverflow = "22008",
    DivisionByZero = "22012",
    InvalidRegularExpression = "2201B",
    InvalidLimit = "2201W",
    InvalidOffset = "2201X",
    CharacterNotInRepertoire = "22021",
    InvalidParameterValue = "22023",
    InvalidTextRepresentation = "22P02",
    InvalidBinaryRepresentation = "22P03",
    BadCopyFormat = "22P04",
    DataException = "22000",
    NotNullViolation = "23502",
    ForeignKeyViolation = "23503",
    UniqueViolation = "23505",
    CheckViolation = "23514",
    InvalidCursorState = "24000",
    ActiveTransaction = "25001",
    ReadOnlyTransaction = "25006",
    NoActiveTransaction = "25P01",
    InFailedTransaction = "25P02",
    IdleInTransaction = "25P03",
    InvalidStatementName = "26000",
    InvalidAuthorization = "28000",
    InvalidPassword = "28P01",
    DependentObjects = "2BP01",
    InvalidCursorName = "34000",
    InvalidSavepoint = "3B001",
    UndefinedDatabase = "3D000",
    UndefinedSchema = "3F000",
    SerializationFailure = "40001",
    Syntax = "42601",
    InvalidName = "42602",
    InsufficientPrivilege = "42501",
    DuplicateColumn = "42701",
    AmbiguousColumn = "42702",
    UndefinedColumn = "42703",
    UndefinedObject = "42704",
    DuplicateAlias = "42712",
    DuplicateObject = "42710",
    GroupingError = "42803",
    DatatypeMismatch = "42804",
    WrongObjectType = "42809",
    UndefinedFunction = "42883",
    UndefinedTable = "42P01",
    UndefinedParameter = "42P02",
    DuplicateCursor = "42P03",
    DuplicateStatement = "42P05",
    DuplicateSchema = "42P06",
    DuplicateTable = "42P07",
    InvalidTableDefinition = "42P16",
    InvalidObjectDefinition = "42P17",
    IndeterminateDatatype = "42P18",
    Windowing = "42P20",
    InvalidColumnReference = "42P10",
    ReservedName = "42939",
    OutOfMemory = "53200",
    DiskFull = "53100",
    TooManyConnections = "53300",
    ConfigurationLimitExceeded = "53400",
    ProgramLimitExceeded = "54000",
    StatementTooComplex = "54001",
    ObjectInUse = "55006",
    NotInPrerequisiteState = "55000",
    CannotChangeParameter = "55P02",
    LockNotAvailable = "55P03",
    QueryCanceled = "57014",
    AdminShutdown = "57P01",
    CannotConnectNow = "57P03",
    IdleSession = "57P05",
    /// The object store or the local disk failed.
    Io = "58030",
    ConfigFile = "F0000",
    /// A bug of ours or of a dependency.
    Internal = "XX000",
    DataCorrupted = "XX001",
    /// A dataset that names purposes was read by a session that states none.
    PurposeMissing = "KH001",
    /// It was read for another purpose, or for one that must be ordered, without an order.
    PurposeNotAllowed = "KH002",
    /// A third party has no agreement of its own that holds.
    ThirdPartyAgreement = "KH003",
    /// A dataset that requires an agreement was read without one.
    AgreementMissing = "KH004",
    /// A state secret was offered to the warehouse: the regulation keeps it out.
    StateSecretRefused = "KH005",
    /// The time for which use was agreed is over.
    AgreementExpired = "KH012",
    /// Somebody would have given themselves what another is to give: the sight of data, an answer
    /// to their own request.
    SeparationOfDuties = "KH014",
}

impl Error {
    /// A new error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            source: None,
        }
    }

    /// What Kho does not do, said instead of pretending (`0A000`).
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(Kind::FeatureNotSupported, message)
    }

    /// A broken assumption of ours (`XX000`).
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// A sentence that says more than the message.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A sentence that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where in the statement, in characters from 1.
    #[must_use]
    pub fn with_position(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// The error this one was translated from; for the trace alone.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error for somebody else who waits for what failed, without what it was translated from.
    #[must_use]
    pub fn again(&self) -> Self {
        Error {
            kind: self.kind,
            message: self.message.clone(),
            detail: self.detail.clone(),
            hint: self.hint.clone(),
            position: self.position,
            source: None,
        }
    }

    /// What failed, where the storage did, somewhere below what a library says; else `None`.
    pub fn of_storage(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        storage::is_of_storage(error).then(|| storage::told(error))
    }

    /// The same where the machine's own disk refused, full or write-protected: a name that is not
    /// there afterwards was not made.
    pub fn of_refusing_disk(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        storage::is_refusal_of_disk(error).then(|| storage::told(error))
    }

    /// The class of this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The SQLSTATE of this error's kind.
    pub fn sqlstate(&self) -> &'static str {
        self.kind.sqlstate()
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// More about it, if there is more.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where in the statement, in characters from 1, where we know.
    pub fn position(&self) -> Option<usize> {
        self.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sqlstate(), self.message)?;
        for (name, text) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "; {name}: {text}")?;
            }
        }
        match &self.source {
            Some(source) => write!(f, "; caused by: {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        storage::told(&error).with_source(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let told = storage::told(&error);
        let told = match told.kind() {
            Kind::DiskFull => told,
            kind => Error::new(kind, format!("input or output failed: {}", error.kind())),
        };
        told.with_source(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::new(Kind::DataCorrupted, "a stored document does not parse").with_source(error)
    }
}

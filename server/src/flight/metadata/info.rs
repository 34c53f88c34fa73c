//! What Kho does, in the numbered facts of Flight SQL.
//!
//! What it guarantees: every fact that the protocol names is told, but the versions of Substrait,
//! which Kho does not speak; each in the kind of value that the JDBC driver reads it as, since it
//! fails on a fact that is missing or of another kind. Tests hold lists of functions and casts
//! against the engine.

mod lists;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel,
    SqlSupportedCaseSensitivity, SqlSupportedElementActions, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use kho_catalog::error::Result;
use kho_sql::session::Session;

use super::not_built;
pub(super) use lists::{CASTS, DATETIME, NUMERIC, STRING, SYSTEM};

/// The version of Arrow's format that is spoken.
const ARROW_FORMAT: &str = "1.5";
/// How long a name may be, in bytes.
const NAME_BYTES: i64 = 63;
/// Prepared statements that a client may have open.
const STATEMENTS: i64 = crate::flight::client::PREPARED as i64;
/// How long a statement may be, in bytes.
const STATEMENT_BYTES: i64 = 16 * 1024 * 1024;
/// `SupportedAnsi92SqlGrammarLevel`, which has no name in the library.
const ANSI92_ENTRY_SQL: i32 = 0;
/// There is no limit, or none that is known.
const UNLIMITED: i64 = 0;

/// The facts that are asked for; all of them where none is named. One that has no number here is
/// passed over, as the protocol wants it.
pub(super) fn answer(
    session: &Session,
    handles_ms: u64,
    command: &CommandGetSqlInfo,
) -> Result<RecordBatch> {
    let idle_ms = session.idle_in_transaction_ms();
    // A transaction ends with its client, at the latest.
    let transactions_ms = if idle_ms == 0 { handles_ms } else { idle_ms.min(handles_ms) };
    let whole = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    let facts = facts(whole(handles_ms), whole(transactions_ms))?;
    facts.record_batch(command.info.iter().copied()).map_err(not_built)
}

fn facts(handles_ms: i32, transactions_ms: i32) -> Result<SqlInfoData> {
    let mut facts = SqlInfoDataBuilder::new();
    let all = server(handles_ms, transactions_ms).into_iter().chain(language()).chain(grammar());
    for (fact, value) in all.chain(limits()).chain(transactions()) {
        match value {
            Value::Text(it) => facts.append(fact, it),
            Value::Switch(it) => facts.append(fact, it),
            Value::Number(it) => facts.append(fact, it),
            Value::Size(it) => facts.append(fact, it),
            Value::List(it) => facts.append(fact, it),
            Value::Map(it) => facts.append(fact, it),
        }
    }
    facts.build().map_err(not_built)
}

type Fact = (SqlInfo, Value);

/// The kinds of value that a fact can have.
enum Value {
    Text(&'static str),
    Switch(bool),
    /// A choice by its number, or choices by their bits.
    Number(i32),
    Size(i64),
    List(&'static [&'static str]),
    Map(BTreeMap<i32, Vec<i32>>),
}

macro_rules! values {
    ($($of:ty => $kind:ident,)*) => {
        $(impl From<$of> for Value {
            fn from(value: $of) -> Value {
                Value::$kind(value)
            }
        })*
    };
}

values! {
    &'static str => Text,
    bool => Switch,
    i32 => Number,
    i64 => Size,
    &'static [&'static str] => List,
    BTreeMap<i32, Vec<i32>> => Map,
}

/// A set of choices, each a bit by its number.
fn bits(choices: &[i32]) -> i32 {
    choices.iter().fold(0, |bits, choice| bits | 1 << choice)
}

fn server(handles_ms: i32, transactions_ms: i32) -> Vec<Fact> {
    use SqlInfo as I;
    vec![
        (I::FlightSqlServerName, "Kho".into()),
        (I::FlightSqlServerVersion, env!("CARGO_PKG_VERSION").into()),
        (I::FlightSqlServerArrowVersion, ARROW_FORMAT.into()),
        (I::FlightSqlServerReadOnly, false.into()),
        (I::FlightSqlServerSql, true.into()),
        (I::FlightSqlServerSubstrait, false.into()),
        (I::FlightSqlServerTransaction, (SqlSupportedTransaction::Savepoint as i32).into()),
        (I::FlightSqlServerCancel, true.into()),
        (I::FlightSqlServerBulkIngestion, true.into()),
        (I::FlightSqlServerIngestTransactionsSupported, true.into()),
        // Of the handles of prepared statements, by the protocol, and not of what they run.
        (I::FlightSqlServerStatementTimeout, handles_ms.into()),
        (I::FlightSqlServerTransactionTimeout, transactions_ms.into()),
    ]
}

fn language() -> Vec<Fact> {
    use SqlInfo as I;
    let actions = bits(&[
        SqlSupportedElementActions::SqlElementInProcedureCalls as i32,
        SqlSupportedElementActions::SqlElementInIndexDefinitions as i32,
        SqlSupportedElementActions::SqlElementInPrivilegeDefinitions as i32,
    ]);
    vec![
        (I::SqlDdlCatalog, false.into()),
        (I::SqlDdlSchema, true.into()),
        (I::SqlDdlTable, true.into()),
        (
            I::SqlIdentifierCase,
            (SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32).into(),
        ),
        (I::SqlIdentifierQuoteChar, "\"".into()),
        // The protocol has no word for names that keep their case and are told apart by it.
        (
            I::SqlQuotedIdentifierCase,
            (SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32).into(),
        ),
        (I::SqlAllTablesAreSelectable, false.into()),
        (I::SqlNullOrdering, (SqlNullOrdering::SqlNullsSortedHigh as i32).into()),
        (I::SqlKeywords, lists::KEYWORDS.into()),
        (I::SqlNumericFunctions, NUMERIC.into()),
        (I::SqlStringFunctions, STRING.into()),
        (I::SqlSystemFunctions, SYSTEM.into()),
        (I::SqlDatetimeFunctions, DATETIME.into()),
        (I::SqlSearchStringEscape, "\\".into()),
        (I::SqlExtraNameCharacters, "$".into()),
        (I::SqlSchemaTerm, "schema".into()),
        (I::SqlProcedureTerm, "procedure".into()),
        (I::SqlCatalogTerm, "database".into()),
        (I::SqlCatalogAtStart, true.into()),
        (I::SqlSchemasSupportedActions, actions.into()),
        (I::SqlCatalogsSupportedActions, 0.into()),
        (I::SqlSupportsConvert, converts().into()),
    ]
}

fn converts() -> BTreeMap<i32, Vec<i32>> {
    let number = |of: &(_, &[_])| {
        let to: Vec<i32> = of.1.iter().map(|to| lists::number(*to)).collect();
        (lists::number(of.0), to)
    };
    CASTS.iter().map(number).collect()
}

fn grammar() -> Vec<Fact> {
    use SqlInfo as I;
    let group_by = bits(&[
        SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
        SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
    ]);
    let joins = bits(&[
        SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
        SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
    ]);
    let subqueries = bits(&[
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
    ]);
    let unions =
        bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]);
    vec![
        (I::SqlSupportsColumnAliasing, true.into()),
        (I::SqlNullPlusNullIsNull, true.into()),
        (I::SqlSupportsTableCorrelationNames, true.into()),
        (I::SqlSupportsDifferentTableCorrelationNames, false.into()),
        (I::SqlSupportsExpressionsInOrderBy, true.into()),
        (I::SqlSupportsOrderByUnrelated, true.into()),
        (I::SqlSupportedGroupBy, group_by.into()),
        (I::SqlSupportsLikeEscapeClause, true.into()),
        (I::SqlSupportsNonNullableColumns, true.into()),
        (I::SqlSupportedGrammar, bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32]).into()),
        (I::SqlAnsi92SupportedLevel, bits(&[ANSI92_ENTRY_SQL]).into()),
        // There are no foreign keys.
        (I::SqlSupportsIntegrityEnhancementFacility, false.into()),
        (I::SqlOuterJoinsSupportLevel, joins.into()),
        (I::SqlSupportedPositionedCommands, 0.into()),
        (I::SqlSelectForUpdateSupported, false.into()),
        (I::SqlStoredProceduresSupported, false.into()),
        (I::SqlSupportedSubqueries, subqueries.into()),
        (I::SqlCorrelatedSubqueriesSupported, true.into()),
        (I::SqlSupportedUnions, unions.into()),
        (I::SqlNamedParametersSupported, false.into()),
        (I::SqlStoredFunctionsUsingCallSyntaxSupported, false.into()),
    ]
}

fn limits() -> Vec<Fact> {
    use SqlInfo as I;
    let names = [
        I::SqlMaxColumnNameLength,
        I::SqlMaxCursorNameLength,
        I::SqlDbSchemaNameLength,
        I::SqlMaxProcedureNameLength,
        I::SqlMaxCatalogNameLength,
        I::SqlMaxTableNameLength,
        I::SqlMaxUsernameLength,
    ];
    let unlimited = [
        I::SqlMaxBinaryLiteralLength,
        I::SqlMaxCharLiteralLength,
        I::SqlMaxColumnsInGroupBy,
        I::SqlMaxColumnsInIndex,
        I::SqlMaxColumnsInOrderBy,
        I::SqlMaxColumnsInSelect,
        I::SqlMaxColumnsInTable,
        I::SqlMaxConnections,
        I::SqlMaxIndexLength,
        I::SqlMaxRowSize,
        I::SqlMaxTablesInSelect,
    ];
    let names = names.map(|fact| (fact, NAME_BYTES.into()));
    let unlimited = unlimited.map(|fact| (fact, UNLIMITED.into()));
    let others = [
        (I::SqlMaxStatementLength, STATEMENT_BYTES.into()),
        (I::SqlMaxStatements, STATEMENTS.into()),
        (I::SqlMaxRowSizeIncludesBlobs, true.into()),
    ];
    names.into_iter().chain(unlimited).chain(others).collect()
}

fn transactions() -> Vec<Fact> {
    use SqlInfo as I;
    use SqlTransactionIsolationLevel as Level;
    let levels = bits(&[
        Level::SqlTransactionReadUncommitted as i32,
        Level::SqlTransactionReadCommitted as i32,
        Level::SqlTransactionRepeatableRead as i32,
        Level::SqlTransactionSerializable as i32,
    ]);
    let forward = bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]);
    let read_only =
        bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    vec![
        // The protocol says int32, the JDBC driver reads int64.
        (
            I::SqlDefaultTransactionIsolation,
            i64::from(Level::SqlTransactionReadCommitted as i32).into(),
        ),
        (I::SqlTransactionsSupported, true.into()),
        (I::SqlSupportedTransactionsIsolationLevels, levels.into()),
        (I::SqlDataDefinitionCausesTransactionCommit, false.into()),
        (I::SqlDataDefinitionsInTransactionsIgnored, false.into()),
        (I::SqlSupportedResultSetTypes, forward.into()),
        (I::SqlSupportedConcurrenciesForResultSetUnspecified, 0.into()),
        (I::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only.into()),
        (I::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0.into()),
        (I::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0.into()),
        (I::SqlBatchUpdatesSupported, true.into()),
        (I::SqlSavepointsSupported, true.into()),
        (I::SqlLocatorsUpdateCopy, false.into()),
    ]
}

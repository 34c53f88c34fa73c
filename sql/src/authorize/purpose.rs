//! Why a session uses data: what its settings say of it, and when they may say something else.
//!
//! What it guarantees: a purpose that is set is one of the list; it holds throughout a transaction,
//! so that whatever was read in one was read for what its records say.
//! What it does not: it decides about no dataset; `kho_catalog::agreement` does.

use kho_catalog::agreement::Stated;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::State;

use crate::settings::Settings;

/// The settings that say it.
pub(crate) const PURPOSE: &str = "kho.purpose";
pub(crate) const ORDER: &str = "kho.order_number";

/// What `settings` say.
pub(crate) fn stated(settings: &Settings) -> Result<Stated> {
    Ok(Stated {
        purpose: settings.get(PURPOSE)?.to_owned(),
        order: settings.get(ORDER)?.to_owned(),
    })
}

/// Whether a setting says it.
pub(crate) fn states(name: &str) -> bool {
    [PURPOSE, ORDER].iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// Whether two sessions' settings would say the same.
pub(crate) fn is_same(one: &Settings, other: &Settings) -> Result<bool> {
    Ok(stated(one)? == stated(other)?)
}

/// # Errors
/// `22023` for a purpose that is not in the list.
pub(crate) fn refuse_unknown(state: &State, settings: &Settings) -> Result<()> {
    let code = settings.get(PURPOSE)?;
    let purposes = &state.access.purposes;
    if code.is_empty() || purposes.get(code).is_some() {
        return Ok(());
    }
    let message = format!("invalid value for parameter \"{PURPOSE}\": \"{code}\"");
    Err(Error::new(Kind::InvalidParameterValue, message).with_hint(format!(
        "Purposes are {}; kho.purposes says what they mean.",
        purposes.listed()
    )))
}

/// The error for a change within a transaction.
pub(crate) fn in_transaction() -> Error {
    let message = "the purpose cannot be changed inside a transaction block";
    Error::new(Kind::ActiveTransaction, message)
        .with_hint("COMMIT or ROLLBACK first; the next transaction can have another purpose.")
}

/// The error for a purpose that only a part of a statement would have.
pub(crate) fn of_part() -> Error {
    let message = "the purpose cannot be changed within a statement that does something else";
    Error::unsupported(message).with_hint(format!("SET {PURPOSE} in a statement of its own."))
}

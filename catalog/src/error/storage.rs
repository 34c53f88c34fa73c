//! What storage says, told so that whoever reads it knows what to do.
//!
//! What it guarantees: a full disk is `53100`, every other failure of storage `58030`; the text
//! names no path, no bucket and no key, since it goes to clients: the source, in the log, does.
//! What it does not: it cannot see through an error that hides its cause.

use std::error::Error as StdError;
use std::io::ErrorKind;

use super::{Error, Kind};

/// The kind and the words for whatever lies at the bottom of `error`.
pub(super) fn told(error: &(dyn StdError + 'static)) -> Error {
    for cause in causes(error) {
        if let Some(told) = cause.downcast_ref::<std::io::Error>().and_then(told_of_disk) {
            return told;
        }
        if let Some(told) = cause.downcast_ref::<object_store::Error>().and_then(told_of_store) {
            return told;
        }
    }
    failed("See the server's log; the statement can be tried again.")
}

/// Whether storage is what failed, somewhere below `error`.
pub(super) fn is_of_storage(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<std::io::Error>() || cause.is::<object_store::Error>())
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        // An I/O error made of another one shows that one's cause, not the one itself.
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn told_of_disk(error: &std::io::Error) -> Option<Error> {
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::new(Kind::DiskFull, "no space left on the warehouse's storage")
                .with_hint("Make room on the server's disk, then run the statement again.")
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            Error::new(Kind::Io, "the warehouse's storage cannot be written")
                .with_hint("Let the server's account write to its folder again.")
        }
        _ => return None,
    })
}

/// Whether the machine's own disk said no, as it does before anything has its name.
pub(super) fn is_refusal_of_disk(error: &(dyn StdError + 'static)) -> bool {
    let disk = |cause: &(dyn StdError + 'static)| cause.downcast_ref().and_then(told_of_disk);
    causes(error).any(|cause| disk(cause).is_some())
}

fn told_of_store(error: &object_store::Error) -> Option<Error> {
    use object_store::Error as Store;
    Some(match error {
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
            failed("The storage refuses the server's credentials; see the server's log.")
        }
        Store::Generic { source, .. } if source.to_string().contains("NoSuchBucket") => {
            failed("The warehouse's bucket does not exist any more; see the server's log.")
        }
        _ => return None,
    })
}

fn failed(hint: &str) -> Error {
    Error::new(Kind::Io, "the warehouse's storage failed").with_hint(hint)
}

//! For tests: the end of the process between two steps of a write, as by `kill -9`.
//!
//! What it guarantees: a release build has none of it.

/// One step of a write is done. In a debug build that was told so by the environment variable
/// `KHOTEST_END_AT_STEP`, the process ends at the step of that number, without a word to anyone.
pub(crate) fn step() {
    #[cfg(debug_assertions)]
    if let Some(left) = &*counted::LEFT
        && left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

#[cfg(debug_assertions)]
mod counted {
    use std::sync::LazyLock;
    use std::sync::atomic::AtomicI64;

    /// How many steps are left.
    pub(super) static LEFT: LazyLock<Option<AtomicI64>> = LazyLock::new(|| {
        let told = std::env::var("KHOTEST_END_AT_STEP").ok()?;
        told.parse().ok().map(AtomicI64::new)
    });
}

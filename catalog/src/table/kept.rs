//! What is kept in memory to be used again, up to a limit in bytes.
//!
//! What it guarantees: the values kept are no larger together than the limit, by what whoever puts
//! them in says of their size; the least recently used go first. One that is larger than the limit
//! is not kept at all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use super::lock;

/// Values by key, for many threads.
pub(super) struct Kept<K, V> {
    limit_bytes: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    clock: u64,
    bytes: usize,
    entries: HashMap<K, Entry<V>>,
}

struct Entry<V> {
    used: u64,
    bytes: usize,
    value: V,
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    pub(super) fn new(limit_bytes: usize) -> Self {
        let inner = Inner { clock: 0, bytes: 0, entries: HashMap::new() };
        Kept { limit_bytes, inner: Mutex::new(inner) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut inner = lock(&self.inner);
        inner.clock += 1;
        let now = inner.clock;
        let entry = inner.entries.get_mut(key)?;
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Keeps `value`, which takes about `bytes`, in place of what had the key.
    pub(super) fn put(&self, key: K, value: V, bytes: usize) {
        let mut inner = lock(&self.inner);
        inner.clock += 1;
        let entry = Entry { used: inner.clock, bytes, value };
        inner.bytes = inner.bytes.saturating_add(bytes);
        if let Some(old) = inner.entries.insert(key, entry) {
            inner.bytes = inner.bytes.saturating_sub(old.bytes);
        }
        while inner.bytes > self.limit_bytes {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some(old) = inner.entries.remove(&oldest) {
                inner.bytes = inner.bytes.saturating_sub(old.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let kept = Kept::new(100);
        kept.put("a", 1, 40);
        kept.put("b", 2, 40);
        assert_eq!(kept.get(&"a"), Some(1));
        kept.put("c", 3, 40);
        assert_eq!((kept.get(&"a"), kept.get(&"b"), kept.get(&"c")), (Some(1), None, Some(3)));
        kept.put("a", 4, 60);
        assert_eq!((kept.get(&"a"), kept.get(&"c")), (Some(4), Some(3)));
        kept.put("d", 5, 101);
        assert_eq!((kept.get(&"a"), kept.get(&"d")), (None, None));
    }
}

//! Files that a process may open only once but that several devices need: opened by the first, closed with the last.
//!
//! It knows nothing of VFIO. The invariant: each node is open at most once, even while it is being closed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::DeviceError;

/// What this process has open, by node; each is opened by the first lease and closed with the last.
pub(super) struct Registry<T: 'static>(Mutex<BTreeMap<PathBuf, Arc<T>>>);

/// A share of something in a [`Registry`].
#[derive(Debug)]
pub(super) struct Lease<T: 'static> {
    /// `None` only while it is dropped.
    value: Option<Arc<T>>,
    node: PathBuf,
    registry: &'static Registry<T>,
}

impl<T: 'static> std::fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl<T: 'static> Registry<T> {
    pub(super) const fn new() -> Registry<T> {
        Registry(Mutex::new(BTreeMap::new()))
    }

    /// A share of what is behind `node`; `open` opens it if this process does not have it open.
    pub(super) fn lease(
        &'static self,
        node: &Path,
        open: impl FnOnce() -> Result<T, DeviceError>,
    ) -> Result<Lease<T>, DeviceError> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match opened.get(node) {
            Some(value) => Arc::clone(value),
            None => {
                let value = Arc::new(open()?);
                opened.insert(node.to_owned(), Arc::clone(&value));
                value
            }
        };
        Ok(Lease { value: Some(value), node: node.to_owned(), registry: self })
    }
}

impl<T: 'static> Lease<T> {
    /// The shared value.
    pub(super) fn value(&self) -> &T {
        self.value.as_ref().expect("only dropping takes the value")
    }
}

impl<T: 'static> Drop for Lease<T> {
    /// Closes under the lock, so that the next lease does not find a group that is still being closed (`EBUSY`).
    fn drop(&mut self) {
        let mut opened = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.value.take());
        if opened.get(&self.node).is_some_and(|value| Arc::strong_count(value) == 1) {
            opened.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_opens_once_and_the_last_one_closes() {
        static REGISTRY: Registry<u32> = Registry::new();
        let node = Path::new("/dev/vfio/7");

        let first = REGISTRY.lease(node, || Ok(1)).unwrap();
        let second = REGISTRY.lease(node, || Ok(2)).unwrap();
        assert_eq!(*second.value(), 1);
        drop(first);
        assert_eq!(REGISTRY.0.lock().unwrap().len(), 1);
        drop(second);

        assert!(REGISTRY.0.lock().unwrap().is_empty());
        assert_eq!(*REGISTRY.lease(node, || Ok(3)).unwrap().value(), 3);
    }

    #[test]
    fn a_failed_opening_leaves_nothing_behind() {
        static REGISTRY: Registry<u32> = Registry::new();

        let failed =
            REGISTRY.lease(Path::new("/dev/vfio/7"), || Err(DeviceError::Unsupported { what: "this" }));

        assert!(failed.is_err() && REGISTRY.0.lock().unwrap().is_empty());
    }
}

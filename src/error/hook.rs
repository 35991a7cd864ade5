//! The caller's own code, as far as errors name it: which hook, and the error that it gave. Knows no worker.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Code that the caller gave to a builder and that a worker calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// Set by `on_event`.
    OnEvent,
    /// Set by `on_answer`.
    OnAnswer,
    /// Set by `before_switchover`.
    BeforeSwitchover,
    /// Set by `before_commit`.
    BeforeCommit,
    /// Set by `before_run`.
    BeforeRun,
    /// Set by `devices_by`.
    DevicesBy,
    /// None of the caller's: an assertion of this library failed, which is a defect of it.
    Internal,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::OnEvent => "on_event",
            Hook::OnAnswer => "on_answer",
            Hook::BeforeSwitchover => "before_switchover",
            Hook::BeforeCommit => "before_commit",
            Hook::BeforeRun => "before_run",
            Hook::DevicesBy => "devices_by",
            Hook::Internal => "the library itself",
        })
    }
}

/// An error of the caller's own code, kept as it was: it can be downcast. Two are equal when they are the same one.
///
/// ```
/// use ringlift::error::CallerError;
///
/// let error = CallerError::new(std::io::Error::from_raw_os_error(5));
/// assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().raw_os_error(), Some(5));
/// ```
#[derive(Clone)]
pub struct CallerError {
    // written where the error was made: its Display is the caller's code, and may not run in a worker
    text: Box<str>,
    error: Arc<dyn Error + Send + Sync>,
}

impl CallerError {
    /// Keeps an error, or a text.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> CallerError {
        let error: Arc<dyn Error + Send + Sync> = error.into().into();
        CallerError { text: error.to_string().into(), error }
    }

    /// The error itself, shared.
    pub fn into_inner(self) -> Arc<dyn Error + Send + Sync> {
        self.error
    }
}

impl Deref for CallerError {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.error
    }
}

impl fmt::Debug for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallerError").field(&self.text).finish()
    }
}

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for CallerError {
    fn eq(&self, other: &CallerError) -> bool {
        Arc::ptr_eq(&self.error, &other.error)
    }
}

impl Eq for CallerError {}

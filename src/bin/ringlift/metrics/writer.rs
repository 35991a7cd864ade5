//! Writes the page to a file again and again, on a thread of its own: a disk may be slow, and a transfer does not wait for it. It
//! must not know what the page says.
//!
//! Invariant: a reader finds a whole page or none, and the last page is written before the writer is gone.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use crate::show::json::JsonTarget;
use crate::show::warnings;

pub(super) struct Writer {
    /// Orders a page now. None when it is being dropped, which orders the last one.
    order: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes a page now, and then one each `every`.
    pub(super) fn start(
        path: PathBuf,
        every: Duration,
        page: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Writer> {
        let (order, ordered) = mpsc::channel();
        let write = move || write(JsonTarget::File(path), every, &ordered, page);
        let thread = thread::Builder::new().name("metrics file".to_owned()).spawn(write)?;
        Ok(Writer { order: Some(order), thread: Some(thread) })
    }

    /// Something happened that does not wait for the next page.
    pub(super) fn hurry(&self) {
        // Its thread is gone only after a panic.
        let _ = self.order.as_ref().map(|order| order.send(()));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.order.take());
        // A panic has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn write(target: JsonTarget, every: Duration, ordered: &Receiver<()>, page: impl Fn() -> String) {
    let mut has_failed = false;
    loop {
        let written = target.put_for_all(&page());
        let fails = written.is_err();
        match written {
            // once, and again after it has worked
            Err(error) if !mem::replace(&mut has_failed, true) => warnings::warning(
                warnings::NOT_WRITTEN,
                &format!("the metrics were not written: {error}"),
                "look at the disk's free space and the folder's permissions",
            ),
            _ => has_failed = fails,
        }
        match ordered.recv_timeout(every) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // what happened since the last one
    let _ = target.put_for_all(&page());
}

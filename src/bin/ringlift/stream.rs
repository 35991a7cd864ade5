//! Writes lines as they come, on a thread of its own: whoever reads them may be slow, full or gone, and no transfer waits
//! for that.
//!
//! It knows nothing of what the lines say. What cannot be written ends the stream, with one warning, and nothing else.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::warnings;

/// Lines that may wait to be written: 64 for each of the most devices, more than one does at the same time. The largest, the
/// end of a transfer, has some MiB; there is one of these.
const WAITING_MAX: usize = 64 * ringlift::limits::DEVICES_MAX;
/// How long the last lines may take when everything is over.
const END_MAX: Duration = Duration::from_secs(2);

/// A stream of lines.
pub(crate) struct Stream {
    /// None when it has ended.
    lines: Option<SyncSender<String>>,
    done: Receiver<()>,
    progress: Progress,
}

impl Stream {
    /// Opens it. A file that is there is replaced, but none of `kept`.
    pub(crate) fn open<'a>(
        target: &JsonTarget,
        kept: impl IntoIterator<Item = &'a Path>,
        progress: &Progress,
    ) -> Result<Stream, Exit> {
        target.check_as(("stream of events", "--events"), kept)?;
        let out: Box<dyn Write + Send> = match target {
            JsonTarget::Stdout => Box::new(io::stdout()),
            JsonTarget::File(path) => {
                let opened = OpenOptions::new().write(true).create(true).truncate(true).open(path);
                Box::new(opened.map_err(|error| {
                    let text =
                        format!("the stream of events cannot be written to {}: {error}", path.display());
                    warnings::usage(&text, "name a file in a folder that can be written to, or - for stdout")
                })?)
            }
        };
        let (lines, waiting) = mpsc::sync_channel(WAITING_MAX);
        let (tell, done) = mpsc::channel();
        let told = progress.clone();
        let write = move || {
            if let Err(error) = write_all(out, &waiting) {
                warn(&told, &error.to_string());
            }
            // the command may not wait any more
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("events".to_owned()).spawn(write).map_err(|error| {
            warnings::failure(&format!("no thread can be started for the events: {error}"), None);
            Exit::Failed
        })?;
        Ok(Stream { lines: Some(lines), done, progress: progress.clone() })
    }

    /// Hands a line over; never waits.
    pub(crate) fn put(&mut self, line: String) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.lines = None;
                warn(&self.progress, "whoever reads them is too slow");
            }
            // it has warned of its end
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

impl Drop for Stream {
    /// Lets the last lines be written, for a while.
    fn drop(&mut self) {
        if self.lines.take().is_none() {
            return;
        }
        if self.done.recv_timeout(END_MAX) == Err(RecvTimeoutError::Timeout) {
            warn(&self.progress, "whoever reads them is too slow");
        }
    }
}

/// Writes each line at once, until there are no more.
fn write_all(mut out: impl Write, waiting: &Receiver<String>) -> io::Result<()> {
    for line in waiting {
        out.write_all(line.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

fn warn(progress: &Progress, why: &str) {
    let text = format!("the stream of events ends here: {why}");
    let hint = "the transfer does not depend on it; the report has the same figures";
    progress.pause(|| warnings::warning(warnings::NOT_WRITTEN, &text, hint));
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn path(name: &str) -> JsonTarget {
        JsonTarget::File(name.into())
    }

    #[test]
    fn every_line_is_in_the_file_when_the_stream_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events");
        let mut stream = Stream::open(&JsonTarget::File(file.clone()), [], &Progress::new(false)).unwrap();
        (0..1000).for_each(|number| stream.put(format!("{number}\n")));
        drop(stream);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..1000));
    }

    #[test]
    fn a_full_disk_ends_it_and_nothing_else() {
        let mut stream = Stream::open(&path("/dev/full"), [], &Progress::new(false)).unwrap();
        (0..1000).for_each(|_| stream.put("line\n".to_owned()));
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let opened = fifo.clone();
        let reader = std::thread::spawn(move || std::fs::File::open(opened).unwrap());
        let mut stream = Stream::open(&JsonTarget::File(fifo), [], &Progress::new(false)).unwrap();
        let reader = reader.join().unwrap();
        (0..2 * WAITING_MAX).for_each(|number| stream.put(format!("{number}\n")));
        assert!(stream.lines.is_none(), "it has ended");
        drop(stream);
        let first = BufReader::new(reader).lines().next().unwrap().unwrap();
        assert_eq!(first, "0", "what was written is whole");
    }

    #[test]
    fn a_file_that_the_run_reads_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        std::fs::write(&file, "state").unwrap();
        let refused = Stream::open(&JsonTarget::File(file.clone()), [file.as_path()], &Progress::new(false));
        assert_eq!(refused.err(), Some(Exit::Usage));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "state");
    }
}

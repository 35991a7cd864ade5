//! Traces of packets: written by the library, put where the command line says, and those of both sides put together. It must not
//! know what is in them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use ringlift::Finished;
use ringlift::report::trace::{self, Trace};

use crate::exit::Exit;
use crate::show::json::{JsonTarget, write_with};
use crate::show::warnings;

/// Before a transfer: detects that the trace cannot be written.
pub(crate) fn check<'a>(path: &Path, kept: impl IntoIterator<Item = &'a Path>) -> Result<(), Exit> {
    JsonTarget::File(path.to_owned()).check_as(("trace", "--trace"), kept)
}

/// Writes what was recorded; of a transfer that never began, what its report says.
pub(crate) fn write(path: &Path, finished: &Finished) {
    warn_unless(write_with(path, None, |file| write_to(file, finished)));
}

fn write_to(file: &File, finished: &Finished) -> io::Result<()> {
    let empty = Trace::default();
    finished.trace.as_ref().unwrap_or(&empty).write(&finished.report, file)
}

/// The file beside `path` that the demo's receiver writes its own trace to.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file());
    let folder = if is_special { std::env::temp_dir() } else { path.with_file_name("") };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".ringlift-{}.receiver", std::process::id()));
    folder.join(name)
}

/// Writes what both sides of a demo recorded, which share a clock; of the sender alone when the receiver wrote nothing.
pub(crate) fn write_both(path: &Path, finished: &Finished, theirs: &Path) {
    let Ok(received) = File::open(theirs) else { return write(path, finished) };
    let ours = theirs.with_extension("sender");
    let written = write_with(&ours, None, |file| write_to(file, finished)).and_then(|()| {
        let (sent, received) = (BufReader::new(File::open(&ours)?), BufReader::new(received));
        write_with(path, None, |file| trace::join(sent, received, true, file))
    });
    for part in [theirs, &ours] {
        // a file that is left over harms nobody
        let _ = fs::remove_file(part);
    }
    match written {
        // a transfer that failed early has no session on both sides
        Err(error) if error.kind() == ErrorKind::InvalidData => write(path, finished),
        written => warn_unless(written),
    }
}

/// Puts the traces of both sides, in either order, into one file.
pub(crate) fn join(files: &[PathBuf], path: &Path) -> Result<Exit, Exit> {
    let [one, other] = files else {
        let text = format!("there are {} traces, and two sides", files.len());
        return Err(warnings::usage(&text, "name the sender's trace and the receiver's"));
    };
    check(path, files.iter().map(PathBuf::as_path))?;
    let put = |sent: &Path, received: &Path| {
        let (sent, received) = (BufReader::new(File::open(sent)?), BufReader::new(File::open(received)?));
        write_with(path, None, |file| trace::join(sent, received, false, file))
    };
    let joined = match put(one, other) {
        Err(error) if error.kind() == ErrorKind::InvalidData => put(other, one).map_err(|_| error),
        joined => joined,
    };
    joined.map(|()| Exit::Complete).map_err(|error| {
        let text = format!("{} and {} cannot be put together: {error}", one.display(), other.display());
        warnings::usage(&text, "name two files that `send --trace` and `recv --trace` wrote for one transfer")
    })
}

fn warn_unless(written: io::Result<()>) {
    if let Err(error) = written {
        let text = format!("the trace was not written: {error}");
        let hint = "look at the disk's free space and the folder's permissions";
        warnings::warning(warnings::NOT_WRITTEN, &text, hint);
    }
}

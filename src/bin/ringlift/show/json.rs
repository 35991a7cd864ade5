//! The report as JSON: to a file, or to stdout for `-`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::exit::Exit;
use crate::files;
use crate::show::{output, warnings};

/// Where reports go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonTarget {
    /// One report per line.
    Stdout,
    /// A regular file is replaced by renaming, so that no reader sees half a report, or appended to.
    File(PathBuf),
}

impl From<PathBuf> for JsonTarget {
    fn from(path: PathBuf) -> JsonTarget {
        if path.as_os_str() == "-" { JsonTarget::Stdout } else { JsonTarget::File(path) }
    }
}

impl JsonTarget {
    /// Before a transfer: detects that a report cannot be written, or would overwrite one of these files, while nothing
    /// has been moved yet.
    pub(crate) fn check<'a>(&self, kept: impl IntoIterator<Item = &'a Path>) -> Result<(), Exit> {
        self.check_as(("report", "--json"), kept)
    }

    /// The same for what another option names.
    pub(crate) fn check_as<'a>(
        &self,
        (what, option): (&str, &str),
        kept: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), Exit> {
        let JsonTarget::File(path) = self else { return Ok(()) };
        if let Some(kept) = kept.into_iter().find(|kept| files::overwrites(path, kept)) {
            let text = format!("the {what} in {} would overwrite {}", path.display(), kept.display());
            return Err(warnings::usage(&text, &format!("name another file with {option}")));
        }
        let checked = match is_special(path) {
            true => OpenOptions::new().write(true).open(path).map(drop),
            false => part(path).and_then(|(part, _)| fs::remove_file(part)),
        };
        checked.map_err(|error| {
            let text = format!("the {what} cannot be written to {}: {error}", path.display());
            let stdout = if matches!(option, "--hlog" | "--metrics-file") { "" } else { ", or - for stdout" };
            warnings::usage(&text, &format!("name a file in a folder that can be written to{stdout}"))
        })
    }

    /// Writes the only report of a run. A failure is printed but does not change the exit status: the outcome for the
    /// devices matters more.
    pub(crate) fn write(&self, report: &impl Serialize) {
        let json = if *self == JsonTarget::Stdout { line(report) } else { pretty(report) };
        warn_unless(json.and_then(|json| self.put(&json)));
    }

    /// Writes all reports of a run, one per line.
    pub(crate) fn write_all(&self, reports: &[&impl Serialize]) {
        let lines = reports.iter().map(line).collect::<io::Result<String>>();
        warn_unless(lines.and_then(|lines| self.put(&lines)));
    }

    /// Adds one of many reports, as a line.
    pub(crate) fn append(&self, report: &impl Serialize) {
        warn_unless(line(report).and_then(|json| match self {
            JsonTarget::File(path) if !is_special(path) => {
                OpenOptions::new().append(true).create(true).open(path)?.write_all(json.as_bytes())
            }
            _ => self.put(&json),
        }));
    }

    /// Writes a text as it is.
    pub(crate) fn write_text(&self, text: &str) {
        warn_unless(self.put(text));
    }

    /// Writes a text, and says how that went.
    pub(crate) fn put(&self, json: &str) -> io::Result<()> {
        self.put_with(json, None)
    }

    /// The same for programs of other users, whatever the umask is.
    pub(crate) fn put_for_all(&self, text: &str) -> io::Result<()> {
        self.put_with(text, Some(fs::Permissions::from_mode(0o644)))
    }

    fn put_with(&self, json: &str, permissions: Option<fs::Permissions>) -> io::Result<()> {
        match self {
            JsonTarget::File(path) => {
                write_with(path, permissions, |mut file| file.write_all(json.as_bytes()))
            }
            JsonTarget::Stdout => {
                output::result(json);
                Ok(())
            }
        }
    }
}

/// Puts a file in the place of `path`, which `write` writes bit by bit.
pub(crate) fn write_with(
    path: &Path,
    permissions: Option<fs::Permissions>,
    write: impl FnOnce(&fs::File) -> io::Result<()>,
) -> io::Result<()> {
    if is_special(path) {
        return write(&OpenOptions::new().write(true).open(path)?);
    }
    let (part, file) = part(path)?;
    let permitted = permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions));
    let written = permitted.and_then(|()| write(&file)).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

fn line(report: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(report)? + "\n")
}

fn pretty(report: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

fn warn_unless(written: io::Result<()>) {
    if let Err(error) = written {
        let text = format!("the report was not written: {error}");
        warnings::warning(
            warnings::NOT_WRITTEN,
            &text,
            "look at the disk's free space and the folder's permissions",
        );
    }
}

/// A pipe or a device: it exists and must not be replaced by a file. A folder counts, too: opening it gives the error.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// A new file beside `path`.
fn part(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let name = path.file_name().ok_or(nix::errno::Errno::EISDIR)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".ringlift-{}.part", std::process::id()));
    let part = path.with_file_name(hidden);
    let create = || OpenOptions::new().write(true).create_new(true).open(&part);
    let file = create().or_else(|error| match error.kind() {
        // of a process that was killed and had the same number, as the first one of a container always has
        io::ErrorKind::AlreadyExists => fs::remove_file(&part).and_then(|()| create()),
        _ => Err(error),
    })?;
    Ok((part, file))
}

#[cfg(test)]
mod tests {
    use ringlift::report::Report;

    use super::*;
    use crate::show::samples::report;

    #[test]
    fn a_file_holds_the_latest_report_or_all_of_them_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let target = JsonTarget::from(path.clone());
        target.check([]).unwrap();
        assert!(!path.exists());

        for bytes in [1, 2] {
            target.write(&Report { bytes, ..report() });
            let found: Report = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(found.bytes, bytes);
        }
        target.append(&Report { bytes: 3, ..report() });
        target.write_all(&[&Report { bytes: 4, ..report() }, &Report { bytes: 5, ..report() }]);
        target.append(&Report { bytes: 6, ..report() });
        let text = fs::read_to_string(&path).unwrap();
        let bytes = text.lines().map(|line| serde_json::from_str::<Report>(line).unwrap().bytes);
        assert_eq!(bytes.collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_beside_a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        let (left, _) = part(&path).unwrap();
        JsonTarget::from(path.clone()).put_for_all("up 1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "up 1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!left.exists());
    }

    #[test]
    fn a_folder_or_a_missing_folder_is_seen_before_the_transfer() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(JsonTarget::File(folder.path().to_owned()).check([]), Err(Exit::Usage));
        assert_eq!(JsonTarget::File(folder.path().join("missing/report.json")).check([]), Err(Exit::Usage));
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let target = JsonTarget::File("/dev/null".into());
        target.check([Path::new("/dev/null")]).unwrap();
        target.write(&report());
        assert!(is_special(Path::new("/dev/null")));
    }

    #[test]
    fn a_dash_is_stdout() {
        assert_eq!(JsonTarget::from(PathBuf::from("-")), JsonTarget::Stdout);
    }
}

//! Reads the reports that `--json` wrote. It must not know what a report says, so that it reads those of any version.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::exit::Exit;
use crate::show::warnings;

/// Larger than any number of reports that can be compared.
const FILE_MAX: u64 = 256 << 20;

/// One report or several, one after the other.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>, Exit> {
    let cannot = |error: &dyn Display| {
        warnings::usage(
            &format!("{} cannot be read: {error}", path.display()),
            "name files that --json wrote",
        )
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let documents: Vec<Value> = documents.collect::<Result<_, _>>().map_err(|error| cannot(&error))?;
    documents.iter().try_for_each(|report| check(path, report))?;
    Ok(documents)
}

fn check(path: &Path, report: &Value) -> Result<(), Exit> {
    let schema = report["schema"].as_str().unwrap_or("none");
    if schema.starts_with("ringlift.report.") {
        return Ok(());
    }
    let text = format!("{} is no report of a transfer: its schema is {schema}", path.display());
    Err(warnings::usage(&text, "name files that `send --json` and `recv --json` wrote"))
}

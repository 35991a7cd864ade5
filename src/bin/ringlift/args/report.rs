//! The command line of `ringlift report`.

use std::path::PathBuf;

use clap::Args;

use super::json;
use crate::show::json::JsonTarget;

const HELP: &str = "\
Reports are what `send --json`, `recv --json` and `demo --json` write, one or several in a file, of any version. The reports of \
both sides of a transfer are put together.

The page has everything in it: no script, nothing to load, and it can be mailed, printed and opened years later. Up to 8 \
transfers stand side by side; `compare` judges whether one version is slower than another.

Traces are what `--trace` writes, one for each side.

Examples:
  ringlift report sent.json
  ringlift report sent.json received.json --html transfer.html
  ringlift report monday.json tuesday.json --html -
  ringlift report sent.trace received.trace --trace both.trace";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Report {
    /// Files with reports, or with traces
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Writes a page with plots to OUT, instead of tables to stdout; - is stdout
    #[arg(long, value_name = "OUT", value_parser = json())]
    pub(crate) html: Option<JsonTarget>,
    /// Puts two traces together in OUT: FILE are the sender's and the receiver's
    #[arg(long, value_name = "OUT", conflicts_with = "html")]
    pub(crate) trace: Option<PathBuf>,
}

//! The options for metrics, which Prometheus collects.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::address;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Metrics {
    /// Writes metrics to FILE each second and at the end, for the textfile collector of node_exporter; its name ends in .prom
    #[arg(long = "metrics-file", value_name = "FILE", value_parser = file())]
    pub(crate) file: Option<PathBuf>,
    /// Answers GET /metrics on this address, for Prometheus, until the command ends; port 0 picks a free port and prints it
    #[arg(long = "metrics", value_name = "ADDR", value_parser = address)]
    pub(crate) address: Option<SocketAddr>,
}

/// The collector reads no other files.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path: PathBuf| {
        let is_read = path.file_stem().is_some() && path.extension() == Some(OsStr::new("prom"));
        let wrong = || {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name =
                name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("ringlift").to_owned();
            format!(
                "node_exporter reads only files whose names end in .prom\nhint: write for example {name}.prom"
            )
        };
        if is_read { Ok(path) } else { Err(wrong()) }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        metrics: Metrics,
    }

    #[test]
    fn a_file_that_the_collector_would_not_read_is_refused() {
        for typed in ["x", "-", ".prom", "x.prom.txt", "/", "", "x.PROM", "x.prom/"] {
            let parsed = Line::try_parse_from(["-", "--metrics-file", typed]);
            if typed == "x.prom/" {
                assert!(parsed.is_ok(), "a folder is seen when it is opened");
                continue;
            }
            let error = parsed.unwrap_err().to_string();
            assert!(typed.is_empty() || error.contains("hint: write for example "), "{typed}: {error}");
        }
        let parsed = Line::try_parse_from(["-", "--metrics-file", "dir.d/net0.prom"]).unwrap();
        assert_eq!(parsed.metrics.file, Some("dir.d/net0.prom".into()));
    }
}

//! What the user sees: results on stdout, messages and progress on stderr.

pub(crate) mod bench;
pub(crate) mod comparison;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod hints;
pub(crate) mod histogram;
pub(crate) mod hlog;
pub(crate) mod interval;
pub(crate) mod json;
pub(crate) mod output;
pub(crate) mod pace;
pub(crate) mod prediction;
pub(crate) mod progress;
pub(crate) mod repeats;
pub(crate) mod results;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod timeline;
pub(crate) mod trace;
pub(crate) mod tune;
pub(crate) mod units;
pub(crate) mod warnings;
pub(crate) mod words;

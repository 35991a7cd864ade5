//! What all reports have in common: the host, the error and the warnings. It knows nothing of what was measured. The
//! names of each enum's variants are defined once: it is displayed as it is serialised.

use serde::{Deserialize, Serialize};

/// Displays an enum as it is serialised.
macro_rules! shown_as_written {
    ($($word:ty),+) => {
        $(impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        })+
    };
}
pub(super) use shown_as_written;

/// A side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The side that sent the state.
    Sender,
    /// The side that received the state.
    Receiver,
}

/// Why something did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The error as a sentence.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Where it ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: u64,
    /// The version of ringlift.
    pub ringlift: String,
}

/// What kind of memory backs a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HugePages {
    /// Huge pages that were reserved.
    Explicit,
    /// Ordinary memory that the kernel was asked to back with huge pages.
    Transparent,
    /// Ordinary pages.
    #[default]
    None,
}

/// Something that the reader must know to interpret the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The kind of warning.
    pub code: WarningCode,
    /// The warning as a sentence.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// Kinds of warning. A report contains the name; [`WarningCode::number`] is for programs that need a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u16)]
pub enum WarningCode {
    /// The kernel copied sends that were meant to be zero-copy.
    ZeroCopyCopied = 1,
    /// SEND_ZC is not available.
    ZeroCopyUnavailable = 2,
    /// No huge pages.
    NoHugePages = 3,
    /// The pool could not be registered.
    NoRegisteredBuffers = 4,
    /// The two hosts' clocks cannot be compared.
    ClocksNotComparable = 5,
    /// bbr is used on a link with a very short round trip.
    CongestionControl = 6,
    /// A device could not be brought back to its earlier state.
    RollbackFailed = 7,
    /// A plain descriptor keeps the bytes of an aborted transfer.
    CannotTakeBack = 8,
    /// A device of a recorded migration had no state.
    DeviceSilent = 9,
    /// The destination of a replay was to acknowledge the switchover, and did not.
    NotAcknowledged = 10,
    /// The only sign that the destination accepted a replay is that it closed the connection.
    Unanswered = 11,
    /// Pre-copy ended with more left than was allowed.
    PrecopyNotConverged = 12,
}

impl WarningCode {
    /// All of them, in the order of their numbers.
    pub const ALL: [WarningCode; 12] = [
        WarningCode::ZeroCopyCopied,
        WarningCode::ZeroCopyUnavailable,
        WarningCode::NoHugePages,
        WarningCode::NoRegisteredBuffers,
        WarningCode::ClocksNotComparable,
        WarningCode::CongestionControl,
        WarningCode::RollbackFailed,
        WarningCode::CannotTakeBack,
        WarningCode::DeviceSilent,
        WarningCode::NotAcknowledged,
        WarningCode::Unanswered,
        WarningCode::PrecopyNotConverged,
    ];

    /// A number that is stable across versions: a number is never reused, even when its code is removed.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

shown_as_written!(Role, HugePages, WarningCode);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name that a type deserialises from, as serde lists them.
    fn words<T: for<'de> Deserialize<'de> + std::fmt::Debug>() -> Vec<String> {
        let refusal = serde_json::from_str::<T>("\"\"").unwrap_err().to_string();
        refusal.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_numbers_of_warnings_never_change() {
        let numbered = |word: String| {
            let code: WarningCode = serde_json::from_str(&format!("\"{word}\"")).unwrap();
            assert_eq!(code.to_string(), word);
            (word, code.number())
        };
        let found: Vec<_> = words::<WarningCode>().into_iter().map(numbered).collect();
        let pinned = [
            ("zero_copy_copied", 1),
            ("zero_copy_unavailable", 2),
            ("no_huge_pages", 3),
            ("no_registered_buffers", 4),
            ("clocks_not_comparable", 5),
            ("congestion_control", 6),
            ("rollback_failed", 7),
            ("cannot_take_back", 8),
            ("device_silent", 9),
            ("not_acknowledged", 10),
            ("unanswered", 11),
            ("precopy_not_converged", 12),
        ];
        assert_eq!(found, pinned.map(|(word, number)| (word.to_owned(), number)));
        assert_eq!(WarningCode::ALL.map(|code| (code.to_string(), code.number()))[..], found);
    }

    /// A code that is not documented cannot be looked up.
    #[test]
    fn the_documents_have_every_warning_with_its_number() {
        let (_, below) = include_str!("../../docs/ERRORS.md").split_once("\n## Warnings\n").unwrap();
        let rows = below.split("\n## ").next().unwrap().lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`').to_owned()))
        });
        let documented: Vec<(u16, String)> = rows.collect();
        assert_eq!(documented, WarningCode::ALL.map(|code| (code.number(), code.to_string())));
    }
}

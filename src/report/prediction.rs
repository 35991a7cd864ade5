//! How long the devices were expected to stand still. It must not know how that is estimated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The downtime that the sender expected directly before its devices stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// All of it.
    pub downtime_ns: u64,
    /// Its parts, by name. They add up to it.
    pub made_of: BTreeMap<String, u64>,
    /// Whether the downtime was within a quarter of it; absent when the transfer did not complete.
    pub came_true: Option<bool>,
}

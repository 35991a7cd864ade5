//! The host that a transfer ran on, as far as figures depend on it. It must not know how that is found out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a transfer ran. What cannot be read is absent or empty: a sandbox may have no files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostDetails {
    /// The host's name.
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: u64,
    /// The same as a list, such as `0-3,8`.
    pub affinity: Option<String>,
    /// How the first processor's frequency is governed.
    pub governor: Option<String>,
    /// NUMA nodes.
    pub numa_nodes: Option<u64>,
    /// Bytes of memory that the process may lock; absent when there is no bound.
    pub memlock: Option<u64>,
    /// Settings of the kernel that bound or steer its sockets, by name.
    pub sysctls: BTreeMap<String, Option<String>>,
    /// The network card of the connections.
    pub nic: Option<Nic>,
    /// The version of ringlift.
    pub ringlift: String,
    /// The commit that it was built from, where `RINGLIFT_GIT` was set when it was built.
    pub git: Option<String>,
    /// `release`, or `debug` with its checks.
    pub profile: String,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Nic {
    /// The interface.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Millions of bits per second.
    pub speed: Option<u64>,
    /// Bytes of its largest packet.
    pub mtu: Option<u64>,
    /// The NUMA node that it is closest to.
    pub numa_node: Option<u64>,
}

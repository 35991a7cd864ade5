//! The host as a report describes it. Files of /proc and /sys say most of it: what cannot be read is absent, and nothing
//! here fails. Read at the end of a transfer, never while devices stand still.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::header::host;
use crate::report::{Host, HostDetails, Nic};

/// What bounds or steers sockets.
const SYSCTLS: [&str; 7] = [
    "net.core.optmem_max",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_wmem",
];

/// This host, whose connections have this address of their own.
pub(super) fn details(local: Option<IpAddr>) -> HostDetails {
    let Host { kernel, cpu, cpus, ringlift } = host();
    let name = nix::sys::utsname::uname().map(|name| name.nodename().to_string_lossy().into_owned());
    HostDetails {
        name: name.unwrap_or_default(),
        kernel,
        cpu,
        cpus,
        affinity: field("/proc/thread-self/status", "Cpus_allowed_list:").map(|list| list.trim().to_owned()),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        numa_nodes: line("/sys/devices/system/node/online").and_then(|list| count(&list)),
        memlock: field("/proc/self/limits", "Max locked memory")
            .and_then(|limits| limits.split_whitespace().next()?.parse().ok()),
        sysctls: sysctls(),
        nic: local.and_then(interface).map(nic),
        ringlift,
        git: option_env!("RINGLIFT_GIT").filter(|git| !git.is_empty()).map(str::to_owned),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
    }
}

fn sysctls() -> BTreeMap<String, Option<String>> {
    let read = |name: &str| {
        let value = line(&format!("/proc/sys/{}", name.replace('.', "/")));
        value.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    SYSCTLS.iter().map(|&name| (name.to_owned(), read(name))).collect()
}

/// A file of one line.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What follows `name` on its line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}

/// How many numbers a list such as `0-3,8` has.
fn count(list: &str) -> Option<u64> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .try_fold(0_u64, |sum, count| sum.checked_add(count?))
}

fn nic(name: String) -> Nic {
    let file = |file: &str| line(&format!("/sys/class/net/{name}/{file}"));
    let number = |path: &str| file(path).and_then(|text| text.parse().ok());
    let driver = field(&format!("/sys/class/net/{name}/device/uevent"), "DRIVER=");
    let (speed, mtu, numa_node) = (number("speed"), number("mtu"), number("device/numa_node"));
    Nic { driver, speed, mtu, numa_node, name }
}

/// The interface that an address of this host belongs to.
fn interface(local: IpAddr) -> Option<String> {
    match local.to_canonical() {
        local if local.is_loopback() => Some("lo".to_owned()),
        IpAddr::V4(local) => interface_of_v4(&fs::read_to_string("/proc/net/route").ok()?, local),
        IpAddr::V6(local) => {
            let digits = format!("{:032x}", u128::from(local));
            let text = fs::read_to_string("/proc/net/if_inet6").ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(&*digits))?;
            line.split_whitespace().last().map(str::to_owned)
        }
    }
}

/// The interface whose network the address is in: a route without a gateway, and of these the narrowest.
fn interface_of_v4(routes: &str, local: Ipv4Addr) -> Option<String> {
    // the table's numbers are the network's bytes, read as this processor reads a word
    let local = u32::from_ne_bytes(local.octets());
    let on_link = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let hex = |cell: usize| u32::from_str_radix(cells.get(cell)?, 16).ok();
        let (network, gateway, mask) = (hex(1)?, hex(2)?, hex(7)?);
        let fits = gateway == 0 && mask != 0 && local & mask == network;
        fits.then(|| (mask.count_ones(), cells[0].to_owned()))
    };
    routes.lines().skip(1).filter_map(on_link).max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_counted() {
        for (list, found) in [("0", Some(1)), ("0-3,8", Some(5)), ("", None), ("3-0", None), ("a", None)] {
            assert_eq!(count(list), found, "{list}");
        }
        assert_eq!(count("0-18446744073709551615"), None, "a number that no count holds");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_belongs_to_the_interface_of_its_network() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      eth1\t000511AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      broken\n";
        let found = |address: [u8; 4]| interface_of_v4(routes, address.into());
        assert_eq!(found([172, 17, 0, 2]).as_deref(), Some("eth0"));
        assert_eq!(found([172, 17, 5, 2]).as_deref(), Some("eth1"), "the narrowest");
        assert_eq!(found([10, 0, 0, 1]), None, "a gateway's interface says nothing of this address");
    }

    #[test]
    fn this_host_is_described_as_its_files_say() {
        let host = details(Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(host.name, fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        let rmem = fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
        let rmem: Vec<&str> = rmem.split_whitespace().collect();
        assert_eq!(host.sysctls["net.ipv4.tcp_rmem"], Some(rmem.join(" ")));
        let nic = host.nic.unwrap();
        let mtu = fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().ok();
        assert_eq!((nic.name.as_str(), nic.mtu), ("lo", mtu));
        let affinity = count(host.affinity.as_deref().unwrap());
        let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let allowed = (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap()).count();
        assert_eq!(affinity, Some(allowed as u64));
    }
}

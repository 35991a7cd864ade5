//! What a side costs its host: the kernel's own counts, now minus at the begin. It must not know what was moved.

use std::fs;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::report::Cost;

/// The kernel's counts when a worker began. Belongs to the worker's thread.
pub(super) struct Meter {
    process: Option<Usage>,
    thread: Option<Usage>,
}

impl Meter {
    pub(super) fn start() -> Meter {
        Meter { process: usage(UsageWho::RUSAGE_SELF), thread: usage(UsageWho::RUSAGE_THREAD) }
    }

    /// What was used since.
    pub(super) fn read(&self, enters: u64) -> Option<Cost> {
        let (now, then) = (usage(UsageWho::RUSAGE_SELF)?, self.process?);
        let (thread_now, thread_then) = (usage(UsageWho::RUSAGE_THREAD)?, self.thread?);
        let since = |count: fn(&Usage) -> u64| count(&now).saturating_sub(count(&then));
        let whole = |usage: &Usage| ns(usage.user_time()) + ns(usage.system_time());
        Some(Cost {
            user_ns: since(|usage| ns(usage.user_time())),
            system_ns: since(|usage| ns(usage.system_time())),
            worker_ns: whole(&thread_now).saturating_sub(whole(&thread_then)),
            voluntary_switches: since(|usage| number(usage.voluntary_context_switches())),
            involuntary_switches: since(|usage| number(usage.involuntary_context_switches())),
            iowq_workers: iowq_workers(),
            enters,
            peak_rss_bytes: peak_rss().unwrap_or_else(|| number(now.max_rss()) * 1024),
        })
    }
}

/// Processor time of the process so far; 0 where the kernel does not tell.
pub(super) fn cpu_ns() -> u64 {
    usage(UsageWho::RUSAGE_SELF).map_or(0, |usage| ns(usage.user_time()) + ns(usage.system_time()))
}

fn usage(whose: UsageWho) -> Option<Usage> {
    getrusage(whose).ok()
}

/// What the kernel calls the high-water mark. Its other count, which needs no file, includes what the program that started
/// this one used.
fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn number(count: impl TryInto<u64>) -> u64 {
    count.try_into().unwrap_or(0)
}

fn ns(time: TimeVal) -> u64 {
    number(time.tv_sec()) * 1_000_000_000 + number(time.tv_usec()) * 1000
}

/// Threads of this process that work for its rings: the kernel names them.
fn iowq_workers() -> Option<u64> {
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let name = fs::read_to_string(task.ok()?.path().join("comm")).unwrap_or_default();
        count += u64::from(name.starts_with("iou-wrk-"));
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_what_the_kernel_shows_in_proc() {
        let mut touched = vec![1_u8; 20 << 20];
        touched.iter_mut().step_by(4096).for_each(|byte| *byte = std::hint::black_box(2));
        let cost = Meter::start().read(7).unwrap();
        drop(touched);
        assert!((20 << 20..1 << 30).contains(&cost.peak_rss_bytes), "{cost:?}");
        let by_rusage = number(usage(UsageWho::RUSAGE_SELF).unwrap().max_rss()) * 1024;
        assert!(cost.peak_rss_bytes <= by_rusage, "{cost:?} and {by_rusage}");
        assert_eq!(cost.enters, 7);
    }

    #[test]
    fn work_between_the_two_looks_is_counted() {
        let meter = Meter::start();
        let used = || meter.read(0).map_or(0, |cost| cost.user_ns + cost.system_ns);
        let mut sum = 0_u64;
        while used() < 5_000_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let cost = meter.read(0).unwrap();
        assert!(cost.user_ns + cost.system_ns >= 5_000_000, "{cost:?}");
        assert!(
            cost.worker_ns > 0 && cost.worker_ns <= cost.user_ns + cost.system_ns + 1_000_000,
            "{cost:?}"
        );
    }
}

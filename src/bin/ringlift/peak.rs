//! The most memory that this process had in use, counted anew for each transfer. It must not know who reads the count.

use std::fs;

/// Forgets what the process used before, so that the kernel's high-water mark (`VmHWM`) is that of what follows. False
/// where the kernel cannot, or the process may not.
pub(crate) fn count_anew() -> bool {
    // 5: "reset the peak resident set size to the current value"
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn high_water() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn memory_that_was_given_back_is_forgotten() {
        if !count_anew() {
            println!("SKIPPED this kernel does not count peak memory anew");
            return;
        }
        let mut touched = vec![1_u8; 100 << 20];
        touched.iter_mut().step_by(4096).for_each(|byte| *byte = std::hint::black_box(2));
        let with = high_water();
        drop(touched);
        assert!(count_anew());
        let without = high_water();
        assert!(without + (90 << 10) < with, "{without} KiB after {with} KiB");
    }
}

//! Sizes, durations and rates: how they are parsed and printed.

use std::str::FromStr;
use std::time::Duration;

/// Bytes, written as `4096`, `64KiB`, `1MiB` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(typed: &str) -> Result<Size, String> {
        let (number, unit) = split(typed);
        let shift = match unit {
            "" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(size_error(number, unit)),
        };
        let number: u64 = number.parse().map_err(|_| size_error(number, unit))?;
        number
            .checked_mul(1 << shift)
            .map(Size)
            .ok_or_else(|| "that is more than 64 bits can count".to_owned())
    }
}

/// A time, written as `300ms`, `30s` or `2m`.
pub(crate) fn duration(typed: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a whole number with ms, s or m\nhint: write 300ms, 30s or 2m".to_owned();
    let (number, unit) = split(typed);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// `1.50 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let unit = (bytes.ilog2() / 10 - 1).min(3);
    // Two digits after the point: rounding by f64 is never visible.
    let value = bytes as f64 / (1u64 << (10 * (unit + 1))) as f64;
    format!("{value:.2} {}", UNITS[unit as usize])
}

/// A size as an option takes it, exactly.
pub(crate) fn typed(size: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| size > 0 && size.is_multiple_of(1 << shift));
    unit.map_or_else(|| size.to_string(), |(shift, unit)| format!("{}{unit}", size >> shift))
}

/// `9.87 GB/s`: decimal, as is usual for networks.
pub(crate) fn rate(bytes_per_s: f64) -> String {
    let (value, unit) = match bytes_per_s {
        rate if rate >= 1e9 => (rate / 1e9, "GB/s"),
        rate if rate >= 1e6 => (rate / 1e6, "MB/s"),
        rate => (rate / 1e3, "kB/s"),
    };
    format!("{value:.2} {unit}")
}

/// `12.3 ms`: three significant digits.
pub(crate) fn time(ns: u64) -> String {
    // The next unit begins where the smaller one would be rounded to 1000.
    const UNITS: [(u64, f64, &str); 3] = [(999_500_000, 1e9, "s"), (999_500, 1e6, "ms"), (1_000, 1e3, "us")];
    let Some((_, unit, name)) = UNITS.into_iter().find(|(from, ..)| ns >= *from) else {
        return format!("{ns} ns");
    };
    let value = ns as f64 / unit;
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {name}")
}

fn split(typed: &str) -> (&str, &str) {
    typed.split_at(typed.find(|char: char| !char.is_ascii_digit()).unwrap_or(typed.len()))
}

fn size_error(number: &str, unit: &str) -> String {
    let example = match unit.trim().chars().next().map(|first| first.to_ascii_uppercase()) {
        Some(first @ ('K' | 'M' | 'G')) if !number.is_empty() => format!("{number}{first}iB"),
        _ => "4096, 64KiB, 1MiB or 2GiB".to_owned(),
    };
    format!("a size is a whole number of bytes, or one with KiB, MiB or GiB\nhint: write {example}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_four_forms() {
        for (typed, size) in
            [("0", 0), ("4096", 4096), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(typed.parse(), Ok(Size(size)));
        }
    }

    #[test]
    fn other_sizes_are_refused_with_the_form_that_was_meant() {
        for (typed, hint) in [
            ("64KB", "write 64KiB"),
            ("64k", "write 64KiB"),
            ("1 MiB", "write 1MiB"),
            ("1M", "write 1MiB"),
            ("3gib", "write 3GiB"),
            ("", "write 4096"),
            ("-1", "write 4096"),
            ("1.5GiB", "write 4096"),
            ("MiB", "write 4096"),
            ("4096B", "write 4096"),
            ("99999999999999999999", "write 4096"),
        ] {
            let error = typed.parse::<Size>().unwrap_err();
            assert!(error.contains(hint), "{typed}: {error}");
        }
        assert!("18446744073709551615GiB".parse::<Size>().is_err());
    }

    #[test]
    fn durations_are_read_in_the_three_forms_and_no_other() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for typed in ["", "30", "s", "1.5s", "-1s", "1h", "30 s", "18446744073709551615m"] {
            assert!(duration(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn figures_are_short_and_have_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(3 << 29), "1.50 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.00 TiB");
        assert_eq!(rate(9.871e9), "9.87 GB/s");
        assert_eq!(rate(2.5e6), "2.50 MB/s");
        assert_eq!(rate(0.0), "0.00 kB/s");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1234), "1.23 us");
        assert_eq!(time(12_345), "12.3 us");
        assert_eq!(time(123_456_789), "123 ms");
        assert_eq!(time(999_499), "999 us");
        assert_eq!(time(999_500), "1.00 ms");
        assert_eq!(time(999_999_999), "1.00 s");
        assert_eq!(time(61_000_000_000), "61.0 s");
    }

    #[test]
    fn sizes_are_typed_as_they_are_read() {
        for size in [0, 1, 4096, 65536, 3 << 20, 1 << 30] {
            assert_eq!(typed(size).parse(), Ok(Size(size)));
        }
    }
}

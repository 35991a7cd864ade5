//! What a transfer is sent with, and the options of `send` that say so. It must not know how settings are compared.

use std::fmt;

use ringlift::limits;

use crate::args::{ChecksumKind, ZeroCopyWhen};
use crate::commands::bench::matrix::Cell;
use crate::show::units::typed;

/// Everything that is tuned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) channels: u16,
    pub(super) packet_size: u32,
    pub(super) zero_copy: ZeroCopyWhen,
    /// None for that of the host.
    pub(super) congestion: Option<String>,
    pub(super) pool: u64,
}

impl Setting {
    /// What `send` does without options, but that so many devices fit into the pool.
    pub(super) fn default_for(devices: u16) -> Setting {
        Setting {
            channels: u16::try_from(limits::CHANNELS_DEFAULT).expect("a small number"),
            packet_size: limits::PACKET_SIZE_DEFAULT,
            zero_copy: ZeroCopyWhen::Auto,
            congestion: None,
            pool: limits::POOL_SIZE_DEFAULT,
        }
        .with_room_for(devices)
    }

    /// With room for four packets of each device.
    pub(super) fn with_room_for(mut self, devices: u16) -> Setting {
        // a slot has a page in front of its payload, and room for a config state at least
        let slot =
            u64::from(self.packet_size).max(limits::CONFIG_SIZE_MAX as u64) + 2 * limits::PAGE_SIZE as u64;
        let needed = (4 * u64::from(devices) * slot).next_power_of_two();
        self.pool = self.pool.max(needed).min(limits::POOL_SIZE_MAX);
        self
    }

    /// The transfer that measures it.
    pub(super) fn cell(&self, devices: u16) -> Cell {
        Cell {
            devices,
            channels: self.channels,
            packet_size: self.packet_size,
            checksum: ChecksumKind::Crc32c,
            zero_copy: self.zero_copy,
            congestion: self.congestion.clone(),
        }
    }

    /// The options of `send` for what is not as `send` has it anyway.
    pub(super) fn options(&self) -> Vec<String> {
        let usual = Setting::default_for(1);
        let mut options = Vec::new();
        let mut option = |differs: bool, name: &str, value: String| {
            if differs {
                options.extend([name.to_owned(), value]);
            }
        };
        option(self.channels != usual.channels, "--channels", self.channels.to_string());
        option(self.packet_size != usual.packet_size, "--packet-size", typed(self.packet_size.into()));
        let zero_copy = match self.zero_copy {
            ZeroCopyWhen::Auto => "auto",
            ZeroCopyWhen::On => "on",
            ZeroCopyWhen::Off => "off",
        };
        option(self.zero_copy != usual.zero_copy, "--zero-copy", zero_copy.to_owned());
        option(self.congestion.is_some(), "--congestion", self.congestion.clone().unwrap_or_default());
        option(self.pool != usual.pool, "--pool", typed(self.pool));
        options
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.channels == 1 { "" } else { "s" };
        write!(f, "{} channel{plural}, packets of {}", self.channels, typed(self.packet_size.into()))?;
        match self.zero_copy {
            ZeroCopyWhen::Auto => {}
            ZeroCopyWhen::On => f.write_str(", zero-copy on")?,
            ZeroCopyWhen::Off => f.write_str(", zero-copy off")?,
        }
        self.congestion.iter().try_for_each(|name| write!(f, ", {name}"))?;
        if self.pool != limits::POOL_SIZE_DEFAULT {
            write!(f, ", a pool of {}", typed(self.pool))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_the_defaults_is_typed() {
        let usual = Setting::default_for(1);
        assert!(usual.options().is_empty());
        assert_eq!(Setting::default_for(100).options(), ["--pool", "512MiB"]);
        let other = Setting {
            channels: 4,
            packet_size: 256 << 10,
            zero_copy: ZeroCopyWhen::Off,
            congestion: Some("bbr".to_owned()),
            pool: (1 << 20) + 1,
        };
        assert_eq!(
            other.options().join(" "),
            "--channels 4 --packet-size 256KiB --zero-copy off --congestion bbr --pool 1048577"
        );
    }
}

//! What is measured, in which order, and the options.

use std::io;
use std::path::PathBuf;

use super::devices::Pair;
use super::{Contestant, Job, Measured, child};
use crate::baseline::Work;

const USAGE: &str = "\
usage: cargo bench --bench transfer -- [OPTIONS]

  --quick                a few MiB, one run: shows that everything works
  --only NAME            transport or device
  --contestants A,B      of ringlift, ringlift-crc32c, threads-inline, threads-pipeline, tokio-uring
                         (all of them), and iperf3 (transport)
  --channels A,B         1,2,4
  --devices A,B          1,4 (device to device)
  --packets A,B          KiB: 64,256,1024,4096
  --transport-mib N      state for transport alone: 8192
  --device-mib N         state for device to device, all devices together: 2048
  --runs N               5
  --congestion NAME      cubic
  --checksum             payloads are summed and checked by everybody
  --json FILE            every sample";

/// The options of this run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) transport: bool,
    pub(crate) device: bool,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) channels: Vec<usize>,
    pub(crate) devices: Vec<usize>,
    pub(crate) packets: Vec<usize>,
    pub(crate) transport_bytes: u64,
    pub(crate) device_bytes: u64,
    pub(crate) runs: usize,
    pub(crate) congestion: String,
    pub(crate) checked: bool,
    pub(crate) json: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            transport: true,
            device: true,
            contestants: Contestant::ALL.into_iter().filter(|who| *who != Contestant::Iperf3).collect(),
            channels: vec![1, 2, 4],
            devices: vec![1, 4],
            packets: vec![64 << 10, 256 << 10, 1 << 20, 4 << 20],
            transport_bytes: 8 << 30,
            device_bytes: 2 << 30,
            runs: 5,
            congestion: "cubic".to_owned(),
            checked: false,
            json: None,
        }
    }
}

impl Plan {
    /// Small sizes, one run; every contestant and both modes.
    pub(crate) fn quick() -> Plan {
        Plan {
            channels: vec![1, 3],
            devices: vec![1, 2],
            packets: vec![64 << 10],
            // an odd last packet
            transport_bytes: (8 << 20) + 4097,
            device_bytes: (8 << 20) + 8198,
            runs: 1,
            congestion: "reno".to_owned(),
            checked: true,
            ..Plan::default()
        }
    }

    /// Parses the arguments.
    pub(crate) fn typed(arguments: &[String]) -> Result<Plan, String> {
        let mut plan = Plan::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().map(String::as_str).ok_or(USAGE);
            match argument.as_str() {
                "--bench" => {}
                "--quick" => plan = Plan { json: plan.json, ..Plan::quick() },
                "--only" => {
                    let only = value()?;
                    (plan.transport, plan.device) = (only == "transport", only == "device");
                }
                "--contestants" => plan.contestants = list(value()?, str::parse)?,
                "--channels" => plan.channels = list(value()?, number)?,
                "--devices" => plan.devices = list(value()?, number)?,
                "--packets" => plan.packets = list(value()?, |text| Ok(number(text)? << 10))?,
                "--transport-mib" => plan.transport_bytes = (number(value()?)? as u64) << 20,
                "--device-mib" => plan.device_bytes = (number(value()?)? as u64) << 20,
                "--runs" => plan.runs = number(value()?)?,
                "--congestion" => plan.congestion = value()?.to_owned(),
                "--checksum" => plan.checked = true,
                "--json" => plan.json = Some(value()?.into()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(plan)
    }

    /// Everything to be measured, without the contestant.
    fn settings(&self) -> Vec<Setting> {
        let transport = self.transport.then_some(0).into_iter();
        let devices = self.device.then_some(&self.devices).into_iter().flatten().copied();
        let mut settings = Vec::new();
        for devices in transport.chain(devices) {
            for &channels in &self.channels {
                for &packet_size in &self.packets {
                    let bytes = if devices == 0 {
                        self.transport_bytes
                    } else {
                        self.device_bytes / devices as u64 * devices as u64
                    };
                    settings.push(Setting { devices, channels, packet_size, bytes });
                }
            }
        }
        settings
    }

    fn job(&self, setting: Setting, contestant: Contestant) -> Job {
        let work = Work {
            channels: setting.channels,
            packet_size: setting.packet_size,
            bytes: setting.bytes,
            checked: self.checked || contestant == Contestant::RingliftCrc32c,
            congestion: self.congestion.clone(),
        };
        Job { contestant, devices: setting.devices, work }
    }

    /// Runs all of it; `tell` is called with each setting when it is done.
    pub(crate) fn run(&self, mut tell: impl FnMut(&Outcome)) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        let mut devices = 0;
        for setting in self.settings() {
            if setting.devices != devices {
                devices = setting.devices;
                pairs.clear();
                for number in 0..devices {
                    pairs.push(Pair::new(number, setting.bytes / devices as u64)?);
                }
            }
            let outcome = self.measure(setting, &mut pairs)?;
            tell(&outcome);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// One run of each contestant to warm up, whose result is checked; then rounds, each begun by another contestant.
    fn measure(&self, setting: Setting, pairs: &mut [Pair]) -> io::Result<Outcome> {
        let fits = |contestant: &Contestant| match contestant {
            // without a device there is nothing to pipeline
            Contestant::ThreadsPipeline => setting.devices > 0,
            // when checked, every contestant does this already
            Contestant::RingliftCrc32c => !self.checked,
            Contestant::Iperf3 => setting.devices == 0,
            _ => true,
        };
        let contestants: Vec<Contestant> = self.contestants.iter().copied().filter(fits).collect();
        let mut samples: Vec<Vec<(Measured, Measured)>> = vec![Vec::new(); contestants.len()];
        for &contestant in &contestants {
            pairs.iter_mut().try_for_each(Pair::clear)?;
            let job = self.job(setting, contestant);
            child::transfer(&job, pairs)?;
            for pair in &mut *pairs {
                if !pair.is_moved()? {
                    return Err(io::Error::other(format!("{job}: the destination differs from the source")));
                }
            }
        }
        for round in 0..self.runs {
            for turn in 0..contestants.len() {
                let who = (round + turn) % contestants.len();
                samples[who].push(child::transfer(&self.job(setting, contestants[who]), pairs)?);
            }
        }
        Ok(Outcome { setting, samples: contestants.into_iter().zip(samples).collect() })
    }
}

/// A setting that all contestants run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    /// 0: transport alone.
    pub(crate) devices: usize,
    pub(crate) channels: usize,
    pub(crate) packet_size: usize,
    pub(crate) bytes: u64,
}

/// What they measured: each run's sender and receiver.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) setting: Setting,
    pub(crate) samples: Vec<(Contestant, Vec<(Measured, Measured)>)>,
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(parse).collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| format!("{text} is no number\n\n{USAGE}"))
}

//! A search as its report. It must not know how the transfers were run.

use std::net::SocketAddr;
use std::time::Duration;

use ringlift::compare::series;
use ringlift::report::{
    HostDetails, Schema, TuneDuel, TuneReport, TuneSkipped, TuneStage, TuneTrial, TuneVerdict, TunedPool,
    TunedSettings,
};

use super::bound::{self, Facts};
use super::search::{Search, Stage, Trial, Verdict, in_flight, pool};
use super::setting::Setting;
use crate::commands::bench::matrix;
use crate::show::units::typed;

/// What the runner knows beside the search.
pub(super) struct Ran<'a> {
    pub(super) to: SocketAddr,
    pub(super) seed: u32,
    pub(super) budget: Duration,
    pub(super) took: Duration,
    pub(super) complete: bool,
    pub(super) devices: u16,
    pub(super) pool_max: u64,
    pub(super) hosts: &'a [Option<HostDetails>; 2],
    pub(super) facts: &'a [(Setting, Facts)],
}

pub(super) fn report(search: &Search, ran: &Ran<'_>) -> TuneReport {
    let found = search.found();
    let of_setting = ran.facts.iter().filter(|(setting, _)| setting == found.setting);
    let facts: Vec<Facts> = of_setting.map(|(_, facts)| *facts).collect();
    let [host, peer_host] = ran.hosts;
    TuneReport {
        schema: Schema::default(),
        seed: ran.seed.into(),
        budget_ns: ns(ran.budget),
        duration_ns: ns(ran.took),
        complete: ran.complete,
        to: ran.to.to_string(),
        devices: ran.devices,
        size: search.size(),
        transfers: ran.facts.len() as u64,
        host: host.clone().unwrap_or_default(),
        peer_host: peer_host.clone(),
        verdict: match found.verdict {
            Verdict::Tuned => TuneVerdict::Tuned,
            Verdict::Defaults => TuneVerdict::Defaults,
            Verdict::Undecided => TuneVerdict::Undecided,
        },
        settings: settings(found.setting),
        send_command: send_command(ran, found.setting, search.size()),
        recv_command: recv_command(ran),
        duel: found.duel.as_ref().map(|duel| TuneDuel {
            contender: settings(&duel.contender),
            rounds: duel.rounds as u64,
            ratio: duel.ratio,
            low: duel.low,
            high: duel.high,
        }),
        overlooked: found.overlooked,
        pool: pool_of(search, found.setting, ran.pool_max),
        bound: bound::of(&facts),
        trials: search.trials().map(trial).collect(),
        skipped: search
            .skipped
            .iter()
            .map(|(what, why)| TuneSkipped { what: what.clone(), why: why.clone() })
            .collect(),
    }
}

fn trial(trial: &Trial) -> TuneTrial {
    TuneTrial {
        stage: match trial.stage {
            Stage::Congestion => TuneStage::Congestion,
            Stage::Channels => TuneStage::Channels,
            Stage::ZeroCopy => TuneStage::ZeroCopy,
            Stage::Packet => TuneStage::PacketSize,
            Stage::Probe | Stage::Finals | Stage::Duel => TuneStage::Probe,
        },
        settings: settings(&trial.setting),
        throughput_bytes_per_s: series::figure(trial.rates()),
        failed: trial.failed.clone(),
    }
}

fn settings(setting: &Setting) -> TunedSettings {
    TunedSettings {
        channels: setting.channels,
        packet_size: setting.packet_size,
        zero_copy: matrix::reported(setting.zero_copy),
        congestion: setting.congestion.clone(),
        pool: setting.pool,
    }
}

/// With the pool that the measured rate of the settings needs.
fn pool_of(search: &Search, setting: &Setting, max: u64) -> TunedPool {
    let trial = search.trials().find(|trial| trial.setting == *setting);
    let (rate, rtt_us) = trial.map_or((0.0, None), |trial| (trial.rate(), trial.rtt_us()));
    let in_flight_bytes = in_flight(rate, rtt_us);
    let bounded_by = (pool(in_flight_bytes, u64::MAX) > max.max(setting.pool)).then_some(max);
    TunedPool { rate_bytes_per_s: rate, rtt_us, in_flight_bytes, bytes: setting.pool, bounded_by }
}

/// It works as it is; devices of one's own take the place of those without content.
fn send_command(ran: &Ran<'_>, setting: &Setting, size: u64) -> String {
    let devices = (0..ran.devices).map(|idx| format!(" --device d{idx}=null:{}", typed(size)));
    let options = setting.options().join(" ");
    let gap = if options.is_empty() { "" } else { " " };
    format!("ringlift send --to {}{gap}{options}{}", ran.to, devices.collect::<String>())
}

fn recv_command(ran: &Ran<'_>) -> String {
    let devices = (0..ran.devices).map(|idx| format!(" --device d{idx}=discard"));
    let plaintext = if ran.to.ip().to_canonical().is_loopback() { "" } else { " --plaintext" };
    format!("ringlift recv --listen {}{plaintext}{}", ran.to, devices.collect::<String>())
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

//! Searches on simulated paths, in virtual time: right answers, false alarms, and the budget.

use std::time::Duration;

use super::*;

/// A source of chance that is the same every time (SplitMix64).
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    fn normal(&mut self, deviation: f64) -> f64 {
        let (length, turn) = (self.uniform(), self.uniform());
        deviation * (-2.0 * length.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    }
}

/// A path between two hosts: a setting's true rate, or why it fails.
struct Path {
    rate: fn(&Setting) -> Result<f64, &'static str>,
    noise: f64,
    rtt_us: u64,
    link: Option<f64>,
    copies: bool,
}

const LAN: Path = Path { rate: |_| Ok(2e9), noise: 0.086, rtt_us: 200, link: None, copies: true };
/// Of connecting, the hand-over and the reports.
const BESIDE: f64 = 0.02;
const MINUTE: Duration = Duration::from_secs(60);

struct Run {
    search: Search,
    took: Duration,
    longest: Duration,
    transfers: u32,
    stages: Vec<Stage>,
}

impl Path {
    fn search(&self, budget: Duration, seed: u32) -> Run {
        let bounds = Bounds { budget, devices: 1, size: None, pool_max: limits::POOL_SIZE_TRUSTED };
        let search = Search::new(bounds, Random::new(seed));
        let mut run =
            Run { search, took: Duration::ZERO, longest: Duration::ZERO, transfers: 0, stages: Vec::new() };
        let mut chance = Chance(seed.into());
        while let Some(next) = run.search.next(run.took) {
            assert!(run.took < budget, "nothing begins after the budget");
            let (result, took) = self.transfer(&next, &mut chance);
            run.stages.push(next.stage);
            run.took += took;
            run.longest = run.longest.max(took);
            run.transfers += 1;
            run.search.measured(result, took);
        }
        assert!(run.took <= budget + run.longest, "{:?}", run.took);
        run
    }

    fn transfer(&self, next: &Next, chance: &mut Chance) -> (Result<Sample, String>, Duration) {
        let rate = match (self.rate)(&next.setting) {
            Ok(rate) => rate.min(next.setting.pool as f64 * 1e6 / self.rtt_us as f64),
            Err(why) => return (Err(why.to_owned()), Duration::from_millis(5)),
        };
        let bytes_per_s = rate * chance.normal(self.noise).exp();
        let seconds = next.size as f64 / bytes_per_s + BESIDE + 4e-6 * self.rtt_us as f64;
        let sample = Sample {
            bytes_per_s,
            rtt_us: Some(self.rtt_us),
            link_bytes_per_s: self.link,
            congestion: "cubic".to_owned(),
            copies: self.copies,
        };
        (Ok(sample), Duration::from_secs_f64(seconds))
    }
}

impl Run {
    fn answer(&self) -> (Verdict, Setting) {
        let found = self.search.found();
        (found.verdict, found.setting.clone())
    }
}

/// Of `trials` searches, the share with this answer in per cent.
fn share(path: &Path, trials: u32, is_right: impl Fn(&Verdict, &Setting) -> bool) -> f64 {
    let right = (0..trials).filter(|&seed| {
        let (verdict, setting) = path.search(MINUTE, seed).answer();
        is_right(&verdict, &setting)
    });
    100.0 * right.count() as f64 / f64::from(trials)
}

#[test]
fn channels_are_doubled_until_they_bring_nothing() {
    // each has a quarter of what the path carries
    let path = Path { rate: |one| Ok(5e8 * f64::from(one.channels.min(4))), ..LAN };
    let right = share(&path, 40, |verdict, one| *verdict == Verdict::Tuned && one.channels == 4);
    println!("{right} %");
    assert!(right >= 70.0, "{right} %");
    let near = share(&path, 40, |verdict, one| *verdict == Verdict::Tuned && (4..=8).contains(&one.channels));
    assert!(near >= 95.0, "{near} %");
    let run = path.search(MINUTE, 1);
    let tried = run.search.trials().filter(|trial| trial.stage == Stage::Channels);
    let most = tried.map(|trial| trial.setting.channels).max();
    assert_eq!(most, Some(16), "two steps more");
    let duel = run.search.found().duel.unwrap();
    assert!(duel.low.unwrap() < 2.0 && 2.0 < duel.high.unwrap(), "{duel:?}");
    assert!(run.took < MINUTE * 8 / 10, "there was no doubt: {:?}", run.took);
}

#[test]
fn one_channel_is_found_where_more_are_slower() {
    let path = Path { rate: |one| Ok(2e9 * 0.85_f64.powf(f64::from(one.channels).log2())), ..LAN };
    let right = share(&path, 40, |verdict, one| *verdict == Verdict::Tuned && one.channels == 1);
    println!("{right} %");
    assert!(right >= 95.0, "{right} %");
}

#[test]
fn a_congestion_control_that_is_faster_is_found() {
    let path =
        Path { rate: |one| Ok(if one.congestion.as_deref() == Some("bbr") { 2.6e9 } else { 2e9 }), ..LAN };
    let is_right = |verdict: &Verdict, one: &Setting| {
        *verdict == Verdict::Tuned && one.congestion.as_deref() == Some("bbr")
    };
    let right = share(&path, 40, is_right);
    println!("{right} %");
    assert!(right >= 95.0, "{right} %");
}

/// Nothing matters: whatever is recommended is a false alarm.
#[test]
fn where_nothing_matters_the_defaults_are_best() {
    for (noise, trials) in [(0.086, 60), (0.15, 500)] {
        let path = Path { noise, ..LAN };
        let alarms = share(&path, trials, |verdict, _| *verdict == Verdict::Tuned);
        println!("noise {noise}: {alarms} % false alarms");
        assert!(alarms <= 5.0, "{alarms} % false alarms at {noise}");
    }
    let found = LAN.search(MINUTE, 1);
    let found = found.search.found();
    assert!(found.verdict == Verdict::Defaults && found.overlooked.unwrap() < 0.15, "{found:?}");
}

/// Ten per cent more with anything but the defaults' packet size, or with other channels.
#[test]
fn a_gain_of_ten_percent_is_found() {
    type HasGain = fn(&Setting) -> bool;
    let gains: [(&str, HasGain); 3] = [
        ("packets", |one| one.packet_size == 256 << 10),
        ("channels", |one| one.channels >= 4),
        ("congestion", |one| one.congestion.is_some()),
    ];
    for (what, has_gain) in gains {
        let rate: fn(&Setting) -> Result<f64, &'static str> = match what {
            "packets" => |one| Ok(if one.packet_size == 256 << 10 { 2.2e9 } else { 2e9 }),
            "channels" => |one| Ok(if one.channels >= 4 { 2.2e9 } else { 2e9 }),
            _ => |one| Ok(if one.congestion.is_some() { 2.2e9 } else { 2e9 }),
        };
        let path = Path { rate, noise: 0.15, ..LAN };
        let found = share(&path, 40, |verdict, one| *verdict == Verdict::Tuned && has_gain(one));
        println!("{what}: {found} %");
        assert!(found >= 85.0, "{what}: {found} %");
    }
}

#[test]
fn what_fails_is_left_out_with_its_reason() {
    let path = Path {
        rate: |one| match (one.congestion.as_deref(), one.zero_copy) {
            (Some("bbr"), _) => Err("setsockopt(TCP_CONGESTION) failed: ENOENT"),
            (_, ZeroCopyWhen::On) => Err("send failed: ENOBUFS"),
            _ => Ok(5e8 * f64::from(one.channels.min(4))),
        },
        copies: false,
        ..LAN
    };
    let run = path.search(MINUTE, 3);
    let reasons: Vec<&str> = run.search.skipped.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(reasons, ["setsockopt(TCP_CONGESTION) failed: ENOENT", "send failed: ENOBUFS"]);
    let (verdict, setting) = run.answer();
    assert!(verdict == Verdict::Tuned && setting.channels >= 4, "{setting}");
}

#[test]
fn zero_copy_is_tried_only_where_the_kernel_does_not_copy_anyway() {
    let faster: fn(&Setting) -> Result<f64, &'static str> =
        |one| Ok(if one.zero_copy == ZeroCopyWhen::Off { 2.6e9 } else { 2e9 });
    let (verdict, setting) = Path { rate: faster, copies: false, ..LAN }.search(MINUTE, 1).answer();
    assert_eq!((verdict, setting.zero_copy), (Verdict::Tuned, ZeroCopyWhen::Off));
    let run = Path { rate: faster, ..LAN }.search(MINUTE, 1);
    assert!(!run.stages.contains(&Stage::ZeroCopy));
    assert_eq!(run.search.skipped.len(), 1);
}

#[test]
fn the_pool_grows_with_bandwidth_and_round_trip() {
    // 64 MiB in 100 ms are 0.67 GB/s: only a larger pool fills the path
    let path = Path { rate: |_| Ok(1.2e9), rtt_us: 100_000, ..LAN };
    let (verdict, setting) = path.search(MINUTE, 1).answer();
    assert_eq!((verdict, setting.pool), (Verdict::Tuned, 256 << 20));
}

#[test]
fn a_full_link_ends_the_search() {
    let path = Path { rate: |_| Ok(1.17e9), link: Some(1.25e9), noise: 0.005, ..LAN };
    let run = path.search(MINUTE, 1);
    assert_eq!(run.answer().0, Verdict::Defaults);
    assert!(run.took < MINUTE / 10, "{:?}", run.took);
    // two channels have half of it
    let path = Path { rate: |one| Ok(2.9e8 * f64::from(one.channels.min(4))), ..path };
    let run = path.search(MINUTE, 1);
    assert_eq!(run.answer().1.channels, 4);
    assert!(!run.stages.contains(&Stage::Packet));
}

#[test]
fn budgets_are_kept_on_every_path() {
    for rate in [1e4, 1e6, 1e8, 1e10] {
        for rtt_us in [20, 100_000] {
            for seconds in [1, 3, 10, 60] {
                let slow: fn(&Setting) -> Result<f64, &'static str> = match rate {
                    1e4 => |_| Ok(1e4),
                    1e6 => |_| Ok(1e6),
                    1e8 => |_| Ok(1e8),
                    _ => |_| Ok(1e10),
                };
                let run = Path { rate: slow, rtt_us, ..LAN }.search(Duration::from_secs(seconds), 1);
                assert!(run.transfers > 0);
            }
        }
    }
}

#[test]
fn a_transfer_takes_about_a_sixth_of_a_second() {
    for rate in [1e8_f64, 2e9] {
        let fixed: fn(&Setting) -> Result<f64, &'static str> =
            if rate < 1e9 { |_| Ok(1e8) } else { |_| Ok(2e9) };
        let run = Path { rate: fixed, ..LAN }.search(MINUTE, 1);
        let seconds = run.search.size() as f64 / rate;
        assert!((0.1..0.22).contains(&seconds), "{seconds}");
    }
}

#[test]
fn too_short_a_budget_is_no_answer() {
    let run = Path { rate: |_| Ok(1e5), ..LAN }.search(Duration::from_secs(1), 1);
    let (verdict, setting) = run.answer();
    assert_eq!((verdict, setting), (Verdict::Undecided, Setting::default_for(1)));
}

//! Whole pages of reports of both versions: every plot is there, nothing is loaded, and no text becomes markup.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use ringlift::report::{
    ClockOffset, Cost, Distribution, Interval, Nic, PreCopyEnd, PreCopyReport, Prediction, Report, Role,
    RunInfo, TcpReport, TimelineEntry, TimelineWhat, Warning, WarningCode,
};
use ringlift::vfio::State;
use serde_json::{Value, json};

use super::*;
use crate::show::samples;

const V1: [&str; 3] = [
    include_str!("../../../../tests/fixtures/reports/sender.json"),
    include_str!("../../../../tests/fixtures/reports/receiver.json"),
    include_str!("../../../../tests/fixtures/reports/sender-failed.json"),
];

fn page(documents: &[Value]) -> String {
    let of = |document: &Value| (0, Transfer::of("run", document).unwrap());
    html(&joined(documents.iter().map(of).collect()))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A report of version 2 in which every part is there; texts are `name`.
fn whole(name: &str) -> Value {
    let name = name.to_owned();
    let mut report: Report = samples::report();
    report.run = Some(RunInfo {
        id: name.clone(),
        arm: Some(name.clone()),
        round: Some(3),
        note: [(name.clone(), name.clone())].into(),
        started_at: name.clone(),
        command_line: vec![name.clone()],
    });
    report.session = Some("ab".to_owned());
    report.devices[0].name = name.clone();
    report.devices[0].estimate = Some(1 << 28);
    report.channels[0].bytes = 268_435_480;
    report.channels[0].tcp =
        Some(TcpReport { rtt_us: Some(90), busy_us: Some(1000), ..TcpReport::default() });
    report.host.name = name.clone();
    report.host.sysctls = [(name.clone(), Some(name.clone()))].into();
    report.host.nic = Some(Nic { name: name.clone(), driver: Some(name.clone()), ..Nic::default() });
    report.cost = Some(Cost { user_ns: 5_000_000, enters: 900, ..Cost::default() });
    report.prediction = Some(Prediction {
        downtime_ns: 90_000_000,
        made_of: [(name.clone(), 90_000_000)].into(),
        came_true: Some(true),
        ..Prediction::default()
    });
    report.intervals = (0..10)
        .map(|at| Interval {
            begin_ns: at * 10_000_000,
            end_ns: (at + 1) * 10_000_000,
            device_bytes: vec![at << 20],
            credit_stall_ns: at * 1_000_000,
            ..Interval::default()
        })
        .collect();
    report.clock = Some(ClockOffset { offset_ns: -500, error_ns: 40 });
    report.warnings =
        vec![Warning { code: WarningCode::NoHugePages, text: name.clone(), hint: name.clone() }];
    report.latency_ns.read = with_histogram();
    report.timeline = timeline();
    report.precopy = Some(PreCopyReport {
        duration_ns: 5_000_000,
        bytes: 7 << 20,
        left_bytes: Some(9),
        limit_bytes: 10,
        rate_bytes_per_s: 11,
        asked: 12,
        end: PreCopyEnd::Converged,
    });
    serde_json::to_value(report).unwrap()
}

fn timeline() -> Vec<TimelineEntry> {
    let entry = |side, what, begin_ns, end_ns| TimelineEntry {
        side,
        device: Some(0),
        channel: None,
        what,
        from: (what == TimelineWhat::Arc).then_some(State::Running),
        to: (what == TimelineWhat::Arc).then_some(State::StopCopy),
        begin_ns,
        end_ns,
    };
    vec![
        entry(Role::Sender, TimelineWhat::Stop, 100, 300),
        entry(Role::Sender, TimelineWhat::Arc, 100, 200),
        entry(Role::Sender, TimelineWhat::FirstRead, 300, 310),
        entry(Role::Sender, TimelineWhat::LastRead, 800, 810),
        entry(Role::Receiver, TimelineWhat::Load, 900, 950),
    ]
}

/// A stage with a whole histogram.
fn with_histogram() -> Distribution {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, ringlift::limits::LATENCY_NS_MAX, 3).unwrap();
    (0..1000u64).for_each(|number| histogram.saturating_record(40_000 + number * number));
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    Distribution {
        count: 1000,
        p50: 290_000,
        max: 1_040_000,
        histogram: Some(text),
        ..Distribution::default()
    }
}

fn ids(html: &str) -> Vec<&str> {
    html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn a_whole_report_has_every_plot_and_each_has_its_table() {
    let html = page(&[whole("net0")]);
    for plot in ["phases-0", "timeline-0-0", "flow-0", "curves", "histogram-0", "channels-0"] {
        assert!(html.contains(&format!(" id=\"{plot}\" width")), "{plot}");
    }
    let count = |what: &str| html.matches(what).count();
    assert_eq!(count("<svg class=\"plot"), count("<details>"));
    assert_eq!(count("<svg class=\"plot"), count("role=\"img\" aria-labelledby"));
    for text in ["7.00 MiB", "which came true", "500 ns behind", "90.0 us", "little enough was left"] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn ids_are_unique_and_links_lead_somewhere() {
    let mut other = whole("net1");
    other["session"] = json!("cd");
    let html = page(&[whole("net0"), other]);
    let mut found = ids(&html);
    found.sort_unstable();
    let count = found.len();
    found.dedup();
    assert_eq!(count, found.len());
    for link in html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(found.contains(&link), "{link}");
    }
    assert!(html.contains("<h3>run (2)</h3>"));
    assert!(html.contains("<h1>Transfers run (1) and run (2)</h1>"));
}

#[test]
fn reports_of_version_1_say_what_they_lack_and_draw_what_they_have() {
    let (sender, mut receiver) = (parsed(V1[0]), parsed(V1[1]));
    receiver["devices"] = sender["devices"].clone();
    let html = page(&[sender, receiver]);
    for plot in ["phases-0", "curves", "channels-0"] {
        assert!(html.contains(&format!("id=\"{plot}\"")), "{plot}");
    }
    for plot in ["flow-0", "timeline-0-0", "histogram-0"] {
        assert!(!html.contains(&format!("id=\"{plot}\"")), "{plot}");
    }
    assert!(html.matches("class=\"missing\"").count() >= 5);
    let failed = page(&[parsed(V1[2])]);
    assert!(failed.contains("note error"), "the error is on the page");
}

#[test]
fn text_from_a_report_never_becomes_markup() {
    const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=y>";
    let html = page(&[whole(EVIL)]);
    for forbidden in ["<script", "<img", "alert(1)</", "\"'>"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let html = page(&[whole("net0")]);
    assert!(html.contains("Content-Security-Policy\" content=\"default-src 'none'"));
    for forbidden in ["<script", "http://", "https://", "@import", "src=", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let loaded = html.split("url(").skip(1).filter(|rest| !rest.starts_with('#')).count();
    assert_eq!(loaded, 0);
}

#[test]
fn tags_are_balanced() {
    let html = page(&[whole("net0"), parsed(V1[2])]);
    for tag in [
        "svg", "table", "tr", "th", "td", "figure", "details", "section", "div", "p", "ul", "li", "dl",
        "text", "title",
    ] {
        let opened = html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn at_most_64_devices_are_drawn_and_the_others_are_counted() {
    let mut document = whole("net0");
    let device = document["devices"][0].clone();
    document["devices"] = (0..100).map(|_| device.clone()).collect();
    let html = page(&[document]);
    assert!(html.contains("id=\"timeline-0-7\"") && !html.contains("id=\"timeline-0-8\""));
    assert!(html.contains("64 of 100 devices are drawn"));
}

/// Where every number of a document stands.
fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(at.to_owned()),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(place, one)| numbers(one, &format!("{at}/{place}"), found));
        }
        Value::Object(all) => all.iter().for_each(|(name, one)| numbers(one, &format!("{at}/{name}"), found)),
        _ => {}
    }
}

#[test]
fn absurd_figures_are_drawn_too() {
    let document = whole("net0");
    let mut found = Vec::new();
    numbers(&document, "", &mut found);
    assert!(found.len() > 150, "{}", found.len());
    let mut drawn = 0;
    for pointer in &found {
        for absurd in [json!(0), json!(u64::MAX), json!(i64::MIN)] {
            let mut document = document.clone();
            *document.pointer_mut(pointer).unwrap() = absurd;
            // some are not even a number that the field can hold
            let Ok(transfer) = Transfer::of("run", &document) else { continue };
            let html = html(&[transfer]);
            assert!(!html.contains("NaN") && !html.contains("inf%"), "{pointer}");
            drawn += 1;
        }
    }
    assert!(drawn > found.len(), "{drawn}");
}

//! Tables that captures and replays have in common.

use ringlift::report::{AnswerReport, CapturedDevice};

use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};

/// A rate; a dash for what arrived in one piece and so has none.
pub(super) fn rate_of(bytes_per_s: f64) -> String {
    if bytes_per_s == 0.0 { "-".to_owned() } else { rate(bytes_per_s) }
}

/// The devices of a migration.
pub(super) fn devices(devices: &[CapturedDevice]) -> String {
    let mut table = Table::new(&[
        "device",
        "packets",
        "data",
        "config",
        "pre-copied",
        "stopped, on main",
        "after switchover",
    ]);
    for device in devices {
        let instance = if device.instance == 0 { String::new() } else { format!("#{}", device.instance) };
        table.row([
            format!("{}{instance}", device.idstr),
            device.packets.to_string(),
            bytes(device.data_bytes),
            bytes(device.config_bytes),
            bytes(device.precopy_bytes),
            bytes(device.stopcopy_bytes),
            device.switchover_ns.map_or("-".to_owned(), time),
        ]);
    }
    table.to_string()
}

/// The messages on the return path, in one line.
pub(super) fn answers(answers: &[AnswerReport]) -> String {
    let answer = |one: &AnswerReport| {
        let message = one.message.to_string().replace('_', " ");
        one.value.map_or(message.clone(), |value| format!("{message} {value}"))
    };
    let words: Vec<_> = answers.iter().map(answer).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

//! The histograms of a report as an interval log that the HdrHistogram tools read: a line for each stage, tagged with its
//! name.

use std::io;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use ringlift::report::{Distribution, Report};

use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::warnings;

/// Before a transfer: detects that the log cannot be written.
pub(crate) fn check<'a>(path: &Path, kept: impl IntoIterator<Item = &'a Path>) -> Result<(), Exit> {
    JsonTarget::File(path.to_owned()).check_as(("log of histograms", "--hlog"), kept)
}

/// Writes the stages of a report and of the other side's in it, each with its side's name.
pub(crate) fn write(path: &Path, report: &Report) {
    match log(report) {
        Ok(text) => JsonTarget::File(path.to_owned()).write_text(&text),
        Err(error) => {
            let text = format!("the histograms were not written: {error}");
            warnings::warning(warnings::NOT_WRITTEN, &text, "name another file");
        }
    }
}

fn log(report: &Report) -> io::Result<String> {
    let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("ringlift: a stage a line, in nanoseconds; the largest is in milliseconds");
    // the tools expect a divisor of 10^6: values are nanoseconds, the column in milliseconds
    builder.with_max_value_divisor(1e6);
    let mut writer = builder.begin_log_with(&mut text, &mut serializer)?;
    for report in std::iter::once(report).chain(report.other_side.as_deref()) {
        for (stage, distribution) in stages(report) {
            let Some(histogram) = distribution.decode() else { continue };
            let tag = format!("{}.{stage}", report.role);
            let took = Duration::from_nanos(report.duration_ns);
            let written = writer.write_histogram(&histogram, Duration::ZERO, took, Tag::new(&tag));
            written.map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
    }
    drop(writer);
    String::from_utf8(text).map_err(io::Error::other)
}

fn stages(report: &Report) -> [(&'static str, &Distribution); 6] {
    let latency = &report.latency_ns;
    [
        ("read", &latency.read),
        ("queue", &latency.queue),
        ("send", &latency.send),
        ("reorder", &latency.reorder),
        ("write", &latency.write),
        ("end_to_end", &latency.end_to_end),
    ]
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::show::samples::report;

    #[test]
    fn its_own_reader_finds_every_stage_of_both_sides() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1000..2000).for_each(|value| histogram.record(value).unwrap());
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        hdrhistogram::serialization::Serializer::serialize(&mut serializer, &histogram, &mut bytes).unwrap();
        let send = Distribution { histogram: Some(base64(&bytes)), ..Distribution::default() };
        let mut sent = report();
        sent.latency_ns.send = send.clone();
        let mut received = report();
        received.role = ringlift::report::Role::Receiver;
        received.latency_ns.write = send;
        sent.other_side = Some(Box::new(received));
        let text = log(&sent).unwrap();
        let entries = IntervalLogIterator::new(text.as_bytes()).map(Result::unwrap);
        let histograms = entries.filter_map(|entry| match entry {
            LogEntry::Interval(found) => Some(found),
            _ => None,
        });
        let mut tags = Vec::new();
        for found in histograms {
            tags.push(found.tag().unwrap().as_str().to_owned());
            let bytes = unbase64(found.encoded_histogram());
            let read: hdrhistogram::Histogram<u64> = Deserializer::new().deserialize(&mut &*bytes).unwrap();
            assert_eq!(read, histogram);
            assert_eq!(found.duration().as_millis(), 107, "that of the report");
            assert!((found.max() - 0.002).abs() < 0.001, "milliseconds");
        }
        assert_eq!(tags, ["sender.send", "receiver.write"]);
    }

    fn base64(bytes: &[u8]) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn unbase64(text: &str) -> Vec<u8> {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }
}

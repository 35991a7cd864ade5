//! What a transfer that ended well, or did not, looks like on both sides.

use ringlift::error::Error;
use ringlift::report::{Role, TransferOutcome};
use ringlift::{Finished, Outcome};

pub(crate) fn assert_complete(sent: &Finished, received: &Finished) {
    assert!(sent.error.is_none(), "the sender: {}", sent.error.as_ref().expect("some"));
    assert!(received.error.is_none(), "the receiver: {}", received.error.as_ref().expect("some"));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
    assert_consistent(sent, received);
}

/// Both sides counted the same, and their own totals add up.
pub(crate) fn assert_consistent(sent: &Finished, received: &Finished) {
    let (sent, received) = (&sent.report, &received.report);
    assert_eq!((sent.role, received.role), (Role::Sender, Role::Receiver));
    for report in [sent, received] {
        assert_eq!(report.outcome, TransferOutcome::Complete);
        assert_eq!(report.bytes, report.devices.iter().map(|device| device.bytes).sum::<u64>());
        assert_eq!(report.packets, report.devices.iter().map(|device| device.packets).sum::<u64>());
        assert_eq!(report.bytes, report.channels.iter().map(|channel| channel.bytes).sum::<u64>());
        assert_eq!(report.packets, report.channels.iter().map(|channel| channel.packets).sum::<u64>());
        assert_eq!(report.settings.channels, report.channels.len() as u64);
        let downtime = report.downtime;
        assert_eq!(
            downtime.total_ns,
            downtime.stop_ns + downtime.transfer_ns + downtime.load_ns + downtime.commit_ns
        );
    }
    assert_eq!(sent.settings.packet_size, received.settings.packet_size);
    assert_eq!(sent.devices.len(), received.devices.len());
    for (sent, received) in sent.devices.iter().zip(&received.devices) {
        assert_eq!((&sent.name, sent.instance), (&received.name, received.instance));
        assert_eq!((sent.bytes, sent.packets), (received.bytes, received.packets), "{}", sent.name);
        assert_eq!(sent.config_bytes, received.config_bytes);
        assert_eq!(sent.crc32c, received.crc32c);
    }
    for (sent, received) in sent.channels.iter().zip(&received.channels) {
        assert_eq!((sent.id, sent.bytes, sent.packets), (received.id, received.bytes, received.packets));
    }
    let data = sent.packets - sent.devices.len() as u64;
    assert_eq!(sent.latency_ns.read.count, data, "each packet but the config packets is read once");
    assert_eq!(sent.latency_ns.queue.count, sent.packets);
    assert_eq!(sent.latency_ns.send.count, sent.packets);
    assert_eq!(received.latency_ns.reorder.count, received.packets);
    assert_eq!(received.latency_ns.write.count, received.packets);
    assert_eq!(received.latency_ns.end_to_end.count, received.packets, "one host has one clock");
}

pub(crate) fn assert_aborted(finished: &Finished) -> &Error {
    assert_eq!(finished.outcome, Outcome::Aborted);
    assert_eq!(finished.report.outcome, TransferOutcome::Aborted);
    let error = finished.error.as_ref().expect("an aborted transfer says why");
    let told = finished.report.error.as_ref().expect("and so does its report");
    assert_eq!((told.text.as_str(), told.hint.as_deref()), (error.to_string().as_str(), error.hint()));
    error
}

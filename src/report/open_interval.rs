//! The interval that is under way. Pure: it is told what was counted so far, and gives the differences.

use super::interval::Interval;
use crate::time::Nanos;

/// What a side has counted up to a moment, beside bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) credit_stall_ns: u64,
    pub(crate) pool_stall_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) retransmits: u64,
    /// Not a sum: what there is at the moment.
    pub(crate) in_flight_bytes: u64,
    /// The same.
    pub(crate) reorder_depth: u64,
}

/// What an interval came to that has ended, beside bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub(super) begin: Nanos,
    pub(super) end: Nanos,
    pub(super) counted: Counted,
}

/// Where the interval that is under way began, and what was counted by then.
#[derive(Debug)]
pub(crate) struct OpenInterval {
    begin: Nanos,
    devices: usize,
    /// The bytes of each device, and then those of each channel.
    bytes_then: Vec<u64>,
    counted_then: Counted,
}

impl Default for OpenInterval {
    /// None is under way.
    fn default() -> OpenInterval {
        OpenInterval {
            begin: Nanos::MAX,
            devices: 0,
            bytes_then: Vec::new(),
            counted_then: Counted::default(),
        }
    }
}

impl OpenInterval {
    /// The first one begins, before anything has moved.
    pub(crate) fn begin(now: Nanos, devices: usize, channels: usize, counted: Counted) -> OpenInterval {
        OpenInterval { begin: now, devices, bytes_then: vec![0; devices + channels], counted_then: counted }
    }

    pub(super) fn begun(&self) -> Nanos {
        self.begin
    }

    /// How many devices there are, and how many devices and channels together.
    pub(super) fn columns(&self) -> (usize, usize) {
        (self.devices, self.bytes_then.len())
    }

    /// It ends, and the next begins: `bytes` is what each device and then each channel has moved so far, and `moved` gets
    /// what each has moved in it. `None` if it has not lasted at all.
    pub(super) fn close(
        &mut self,
        now: Nanos,
        counted: Counted,
        bytes: impl Iterator<Item = u64>,
        mut moved: impl FnMut(u64),
    ) -> Option<Closed> {
        if now <= self.begin {
            return None;
        }
        let then = std::mem::replace(&mut self.counted_then, counted);
        let since = |count: fn(&Counted) -> u64| count(&counted).saturating_sub(count(&then));
        let counted = Counted {
            credit_stall_ns: since(|counted| counted.credit_stall_ns),
            pool_stall_ns: since(|counted| counted.pool_stall_ns),
            cpu_ns: since(|counted| counted.cpu_ns),
            retransmits: since(|counted| counted.retransmits),
            ..counted
        };
        for (then, now) in self.bytes_then.iter_mut().zip(bytes) {
            moved(now.saturating_sub(*then));
            *then = now;
        }
        let begin = std::mem::replace(&mut self.begin, now);
        Some(Closed { begin, end: now, counted })
    }

    /// The same, as the caller is told of it; times are counted from `started_at`.
    pub(crate) fn end(
        &mut self,
        now: Nanos,
        started_at: Nanos,
        counted: Counted,
        bytes: impl Iterator<Item = u64>,
    ) -> Option<Interval> {
        let mut columns = Vec::with_capacity(self.bytes_then.len());
        let closed = self.close(now, counted, bytes, |moved| columns.push(moved))?;
        Some(closed.interval(&columns, self.devices, started_at))
    }
}

impl Closed {
    /// As the report has it: `bytes` are those of the devices and then those of the channels.
    pub(super) fn interval(&self, bytes: &[u64], devices: usize, started_at: Nanos) -> Interval {
        let (device_bytes, channel_bytes) = bytes.split_at(devices);
        let Closed { begin, end, counted } = self;
        Interval {
            begin_ns: begin.saturating_sub(started_at),
            end_ns: end.saturating_sub(started_at),
            device_bytes: device_bytes.to_vec(),
            channel_bytes: channel_bytes.to_vec(),
            credit_stall_ns: counted.credit_stall_ns,
            pool_stall_ns: counted.pool_stall_ns,
            in_flight_bytes: counted.in_flight_bytes,
            reorder_depth: counted.reorder_depth,
            cpu_ns: counted.cpu_ns,
            retransmits: counted.retransmits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_ends_tells_what_moved_since_the_one_before() {
        let mut open = OpenInterval::begin(100, 1, 1, Counted { cpu_ns: 5, ..Counted::default() });
        let counted = Counted { cpu_ns: 9, in_flight_bytes: 3, ..Counted::default() };
        let first = open.end(150, 100, counted, [7, 8].into_iter()).unwrap();
        let second = open.end(190, 100, counted, [7, 9].into_iter()).unwrap();
        assert_eq!((first.begin_ns, first.end_ns, first.cpu_ns, first.in_flight_bytes), (0, 50, 4, 3));
        assert_eq!((second.begin_ns, second.end_ns, second.cpu_ns, second.in_flight_bytes), (50, 90, 0, 3));
        assert_eq!((&first.device_bytes[..], &first.channel_bytes[..]), (&[7][..], &[8][..]));
        assert_eq!((&second.device_bytes[..], &second.channel_bytes[..]), (&[0][..], &[1][..]));
    }

    #[test]
    fn nothing_ends_that_has_not_begun_or_has_not_lasted() {
        assert_eq!(OpenInterval::default().end(7, 0, Counted::default(), std::iter::empty()), None);
        let mut open = OpenInterval::begin(100, 1, 0, Counted::default());
        assert_eq!(open.end(100, 100, Counted::default(), [1].into_iter()), None);
    }
}

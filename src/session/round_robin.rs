//! Which device is served next. A pure choice.

use super::index_set::IndexSet;
use crate::numbers::DeviceIdx;

/// Round robin: the first candidate after the one chosen last.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    last: usize,
}

impl RoundRobin {
    pub(crate) fn choose(&mut self, candidates: &IndexSet<DeviceIdx>) -> Option<DeviceIdx> {
        let chosen = candidates.next_from(self.last + 1)?;
        self.last = chosen.index();
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_take_turns() {
        let mut round_robin = RoundRobin::default();
        let mut candidates = IndexSet::below(3);
        candidates.remove(DeviceIdx(1));
        let order: Vec<_> = (0..4).map(|_| round_robin.choose(&candidates)).collect();
        assert_eq!(order, [2, 0, 2, 0].map(|device| Some(DeviceIdx(device))));
        assert_eq!(round_robin.choose(&IndexSet::default()), None);
        assert_eq!(round_robin.choose(&IndexSet::below(256)), Some(DeviceIdx(1)));
    }
}

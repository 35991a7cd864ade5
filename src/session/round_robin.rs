//! Which device is served next. A pure choice.

/// Takes turns: the first of `count` candidates after the last one chosen for which `ready` holds.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    last: usize,
}

impl RoundRobin {
    pub(crate) fn choose(&mut self, count: usize, mut ready: impl FnMut(usize) -> bool) -> Option<usize> {
        let chosen =
            (1..=count).map(|step| (self.last + step) % count).find(|&candidate| ready(candidate))?;
        self.last = chosen;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_take_turns() {
        let mut turn = RoundRobin::default();
        let order: Vec<_> = (0..4).map(|_| turn.choose(3, |device| device != 1)).collect();
        assert_eq!(order, [Some(2), Some(0), Some(2), Some(0)]);
        assert_eq!(turn.choose(3, |_| false), None);
        assert_eq!(turn.choose(0, |_| true), None);
    }
}

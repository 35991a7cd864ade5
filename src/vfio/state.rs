//! Migration states and the legal ways between them. Pure: it knows no device and no file.
//!
//! The rules are those of `enum vfio_device_mig_state` in the kernel's `linux/vfio.h`. Every change is a chain of
//! single arcs and may fail on any of them: [`State::next_arc`] is the next one, and [`State::recover`] decides where to
//! go after a failure.

use std::fmt;

use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio;

/// A migration state of a device (the kernel's `VFIO_DEVICE_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// The device failed; only a reset helps.
    Error,
    /// Stopped; its state does not change.
    Stop,
    /// Running.
    Running,
    /// Stopped; its state can be read.
    StopCopy,
    /// Stopped; its state can be written.
    Resuming,
    /// Running, but starts no DMA to other devices.
    RunningP2p,
    /// Running; its state can be read at the same time.
    PreCopy,
    /// As `PreCopy`, but starts no DMA to other devices.
    PreCopyP2p,
}

/// What a device can do, beyond running and failing (the kernel's `VFIO_MIGRATION_*` flags).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(u64);

/// Where to bring a device after a failed state change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recover {
    /// To this state; if that fails, too, only a reset remains.
    To(State),
    /// The only way back is a reset, which brings the device to RUNNING with its state lost.
    Reset,
}

impl State {
    /// Every state, by the kernel's numbers.
    pub const ALL: [State; 8] = [
        State::Error,
        State::Stop,
        State::Running,
        State::StopCopy,
        State::Resuming,
        State::RunningP2p,
        State::PreCopy,
        State::PreCopyP2p,
    ];

    /// From the kernel's number; `None` for a state that is newer than this code.
    pub fn from_kernel(number: u32) -> Option<State> {
        State::ALL.into_iter().find(|state| state.to_kernel() == number)
    }

    /// The kernel's number.
    pub fn to_kernel(self) -> u32 {
        match self {
            State::Error => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
            State::Stop => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
            State::Running => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
            State::StopCopy => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
            State::Resuming => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
            State::RunningP2p => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
            State::PreCopy => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
            State::PreCopyP2p => vfio::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
        }
    }

    /// Whether a device with `features` has this state at all.
    pub fn exists(self, features: Features) -> bool {
        match self {
            State::Error | State::Running => true,
            State::Stop | State::StopCopy | State::Resuming => features.stop_copy(),
            State::RunningP2p => features.stop_copy() && features.p2p(),
            State::PreCopy => features.stop_copy() && features.pre_copy(),
            State::PreCopyP2p => features.stop_copy() && features.p2p() && features.pre_copy(),
        }
    }

    /// Whether a data file is open in this state.
    pub fn has_session(self) -> bool {
        self.saves() || self == State::Resuming
    }

    /// Whether this state is of the saving group: a change within the group keeps the data file.
    pub fn saves(self) -> bool {
        matches!(self, State::PreCopy | State::PreCopyP2p | State::StopCopy)
    }

    /// The state in which the device does the same, but without a data file. RESUMING has no such state (half a state
    /// is no state), nor has ERROR: both map to themselves.
    pub fn without_session(self) -> State {
        match self {
            State::PreCopy => State::Running,
            State::PreCopyP2p => State::RunningP2p,
            State::StopCopy => State::Stop,
            other => other,
        }
    }

    /// Whether the kernel lets a device with `features` go from here to `to`, in one arc or in several.
    ///
    /// Every existing state can be reached from every other, with two exceptions: no request leads into or out of
    /// ERROR, and none leads from STOP_COPY back to PRE_COPY or PRE_COPY_P2P.
    pub fn can_go(self, to: State, features: Features) -> bool {
        let exist = self.exists(features) && to.exists(features);
        let failed = self == State::Error || to == State::Error;
        let backwards = self == State::StopCopy && matches!(to, State::PreCopy | State::PreCopyP2p);
        exist && !failed && !backwards
    }

    /// Whether going from here to `to` is a single arc: one that the driver of a device with `features` implements
    /// itself, so that a failure leaves the device here, there or in ERROR. All others are chains of these.
    pub fn is_single_arc(self, to: State, features: Features) -> bool {
        use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
        self.exists(features)
            && to.exists(features)
            && match (self, to) {
                (Stop, Resuming | StopCopy) | (Resuming | StopCopy, Stop) => true,
                (Running, PreCopy) | (PreCopy, Running) => true,
                // with P2P, a device starts and stops through the P2P states
                (Running, Stop) | (Stop, Running) | (PreCopy, StopCopy) => !features.p2p(),
                (Running | Stop | PreCopyP2p, RunningP2p) | (RunningP2p, Running | Stop | PreCopyP2p) => true,
                (PreCopy, PreCopyP2p) | (PreCopyP2p, PreCopy | StopCopy) => true,
                _ => false,
            }
    }

    /// The first single arc of the way from here to `to`: the same that the kernel takes when it is asked for the whole way
    /// at once. None where there is no way, and where the device is there already.
    pub(crate) fn next_arc(self, to: State, features: Features) -> Option<State> {
        if self == to || !self.can_go(to, features) {
            return None;
        }
        // a state that this device does not have is passed by
        let mut next = self.towards(to);
        while !next.exists(features) {
            next = next.towards(to);
        }
        Some(next)
    }

    /// The next state on the way to another one, for a device that has every state.
    fn towards(self, to: State) -> State {
        use State::{Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
        match (self, to) {
            (Stop, Resuming | StopCopy) => to,
            (Stop, _) => RunningP2p,
            (Resuming | StopCopy, _) => Stop,
            (Running, PreCopy) => PreCopy,
            (Running, _) => RunningP2p,
            (RunningP2p, Running | PreCopy) => Running,
            (RunningP2p, PreCopyP2p) => PreCopyP2p,
            (RunningP2p, _) => Stop,
            (PreCopy, PreCopyP2p | StopCopy) => PreCopyP2p,
            (PreCopy, _) => Running,
            (PreCopyP2p, PreCopy | StopCopy) => to,
            (PreCopyP2p, _) => RunningP2p,
            (Error, _) => Error,
        }
    }

    /// Where to bring a device when going from here to `to` failed.
    ///
    /// * Loading (to or from RESUMING): only a reset. The device holds half of a state, and the kernel's documentation
    ///   says "to abort a RESUMING session the device must be reset".
    /// * Ending something (saving, or being stopped): the same again, because the first attempt may have ended midway
    ///   and every other state would be wrong: a device that should run must not stay stopped, and vice versa.
    /// * Beginning something (saving, or being quiet): back to what the device did before, RUNNING for a device that
    ///   ran and STOP for one that was stopped. So a failed PRE_COPY or STOP_COPY leaves a running device running.
    pub(crate) fn recover(self, to: State) -> Recover {
        use State::{Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
        match (self, to) {
            (Resuming | Error, _) | (_, Resuming | Error) => Recover::Reset,
            (StopCopy, Stop | Running | RunningP2p) => Recover::To(to),
            (PreCopy | PreCopyP2p | Stop, Running | RunningP2p) => Recover::To(to),
            (RunningP2p, Running) => Recover::To(to),
            (from, _) => Recover::To(from.without_session()),
        }
    }
}

impl Features {
    const STOP_COPY: u64 = vfio::VFIO_MIGRATION_STOP_COPY as u64;
    const P2P: u64 = vfio::VFIO_MIGRATION_P2P as u64;
    const PRE_COPY: u64 = vfio::VFIO_MIGRATION_PRE_COPY as u64;

    /// From the kernel's flags. Flags newer than this code are dropped: they only add states.
    pub fn from_kernel(flags: u64) -> Features {
        Features(flags & (Features::STOP_COPY | Features::P2P | Features::PRE_COPY))
    }

    /// STOP, STOP_COPY and RESUMING exist: the least that a device needs for migration.
    pub fn stop_copy(self) -> bool {
        self.0 & Features::STOP_COPY != 0
    }

    /// RUNNING_P2P exists: several devices that do DMA to each other can be migrated together.
    pub fn p2p(self) -> bool {
        self.0 & Features::P2P != 0
    }

    /// PRE_COPY exists: state can be read while the device runs.
    pub fn pre_copy(self) -> bool {
        self.0 & Features::PRE_COPY != 0
    }
}

impl fmt::Display for State {
    /// As the kernel names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Error => "ERROR",
            State::Stop => "STOP",
            State::Running => "RUNNING",
            State::StopCopy => "STOP_COPY",
            State::Resuming => "RESUMING",
            State::RunningP2p => "RUNNING_P2P",
            State::PreCopy => "PRE_COPY",
            State::PreCopyP2p => "PRE_COPY_P2P",
        })
    }
}

impl fmt::Display for Features {
    /// As the kernel names them, with a space between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.stop_copy(), "STOP_COPY"), (self.p2p(), "P2P"), (self.pre_copy(), "PRE_COPY")];
        let mut separator = "";
        for (_, name) in names.into_iter().filter(|(has, _)| *has) {
            write!(f, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use crate::vfio::fake;
    use crate::vfio::state::State::{
        Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy,
    };
    use crate::vfio::state::{Features, Recover, State};

    /// Every combination that the kernel defines: STOP_COPY with or without the other two.
    fn feature_sets() -> impl Iterator<Item = Features> {
        [0b001, 0b011, 0b101, 0b111].into_iter().map(Features::from_kernel)
    }

    fn all_pairs() -> impl Iterator<Item = (State, State)> {
        State::ALL.into_iter().flat_map(|from| State::ALL.into_iter().map(move |to| (from, to)))
    }

    /// The documented chains for a device with all features, as the kernel's `vfio_mig_get_next_state` lists them.
    const CHAINS: [&[State]; 25] = [
        &[PreCopy, PreCopyP2p, StopCopy],
        &[PreCopy, Running, RunningP2p],
        &[PreCopy, Running, RunningP2p, Stop],
        &[PreCopy, Running, RunningP2p, Stop, Resuming],
        &[PreCopyP2p, RunningP2p, Running],
        &[PreCopyP2p, RunningP2p, Stop],
        &[PreCopyP2p, RunningP2p, Stop, Resuming],
        &[Resuming, Stop, RunningP2p],
        &[Resuming, Stop, RunningP2p, PreCopyP2p],
        &[Resuming, Stop, RunningP2p, Running],
        &[Resuming, Stop, RunningP2p, Running, PreCopy],
        &[Resuming, Stop, StopCopy],
        &[Running, RunningP2p, PreCopyP2p],
        &[Running, RunningP2p, Stop],
        &[Running, RunningP2p, Stop, Resuming],
        &[Running, RunningP2p, Stop, StopCopy],
        &[RunningP2p, Running, PreCopy],
        &[RunningP2p, Stop, Resuming],
        &[RunningP2p, Stop, StopCopy],
        &[Stop, RunningP2p, PreCopyP2p],
        &[Stop, RunningP2p, Running],
        &[Stop, RunningP2p, Running, PreCopy],
        &[StopCopy, Stop, Resuming],
        &[StopCopy, Stop, RunningP2p],
        &[StopCopy, Stop, RunningP2p, Running],
    ];

    /// The single arcs that a driver must implement, for each combination of features (P2P, PRE_COPY), from the same
    /// place.
    fn documented_arcs(features: Features) -> Vec<(State, State)> {
        let mut arcs = vec![(Resuming, Stop), (Stop, Resuming), (Stop, StopCopy), (StopCopy, Stop)];
        if features.p2p() {
            arcs.extend([
                (Running, RunningP2p),
                (RunningP2p, Running),
                (RunningP2p, Stop),
                (Stop, RunningP2p),
            ]);
        } else {
            arcs.extend([(Running, Stop), (Stop, Running)]);
        }
        if features.pre_copy() {
            arcs.extend([(Running, PreCopy), (PreCopy, Running)]);
        }
        if features.pre_copy() && !features.p2p() {
            arcs.extend([(PreCopy, StopCopy)]);
        }
        if features.pre_copy() && features.p2p() {
            arcs.extend([(PreCopy, PreCopyP2p), (PreCopyP2p, PreCopy), (PreCopyP2p, RunningP2p)]);
            arcs.extend([(PreCopyP2p, StopCopy), (RunningP2p, PreCopyP2p)]);
        }
        arcs
    }

    #[test]
    fn states_are_the_kernels_numbers() {
        let numbers: Vec<u32> = State::ALL.iter().map(|state| state.to_kernel()).collect();

        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        for state in State::ALL {
            assert_eq!(State::from_kernel(state.to_kernel()), Some(state));
        }
        assert_eq!(State::from_kernel(8), None);
    }

    #[test]
    fn single_arcs_are_the_documented_ones() {
        for features in feature_sets() {
            let documented = documented_arcs(features);
            for (from, to) in all_pairs() {
                let expected = documented.contains(&(from, to));
                assert_eq!(from.is_single_arc(to, features), expected, "{from} -> {to} with {features}");
            }
        }
    }

    #[test]
    fn chains_are_reachable_and_made_of_single_arcs() {
        let all = Features::from_kernel(0b111);
        for chain in CHAINS {
            assert!(chain[0].can_go(chain[chain.len() - 1], all), "{chain:?}");
            for pair in chain.windows(2) {
                assert!(pair[0].is_single_arc(pair[1], all), "{chain:?}");
            }
        }
    }

    #[test]
    fn reachable_are_the_documented_arcs_and_chains_and_nothing_else() {
        let all = Features::from_kernel(0b111);
        let arcs = documented_arcs(all);
        for (from, to) in all_pairs() {
            let chain = CHAINS.iter().any(|chain| chain[0] == from && chain[chain.len() - 1] == to);
            let stays = from == to && from != Error;
            assert_eq!(from.can_go(to, all), stays || chain || arcs.contains(&(from, to)), "{from} -> {to}");
        }
    }

    #[test]
    fn reachable_is_what_the_kernels_table_reaches_for_every_set_of_features() {
        for features in feature_sets() {
            for (from, to) in all_pairs() {
                let walk = fake::walk(from, to, features);
                assert_eq!(from.can_go(to, features), walk.is_some(), "{from} -> {to} with {features}");
                let steps = walk.unwrap_or_default();
                let mut at = from;
                for step in steps {
                    assert!(at.is_single_arc(step, features), "{at} -> {step} with {features}");
                    at = step;
                }
            }
        }
    }

    /// The states on the way from `from` to `to`, arc by arc.
    fn way(from: State, to: State, features: Features) -> Vec<State> {
        let mut way = vec![from];
        while let Some(next) = way[way.len() - 1].next_arc(to, features) {
            assert!(way.len() < State::ALL.len(), "{from} -> {to} with {features} does not end: {way:?}");
            way.push(next);
        }
        way
    }

    #[test]
    fn the_way_arc_by_arc_is_the_documented_chain() {
        let all = Features::from_kernel(0b111);
        for chain in CHAINS {
            assert_eq!(way(chain[0], chain[chain.len() - 1], all), chain);
        }
    }

    #[test]
    fn every_way_ends_and_is_the_one_that_the_kernel_takes() {
        for features in feature_sets() {
            for (from, to) in all_pairs() {
                let way = way(from, to, features);
                if from.can_go(to, features) {
                    assert_eq!(Some(&way[1..]), fake::walk(from, to, features).as_deref(), "{from} -> {to}");
                    assert_eq!(way.last(), Some(&to));
                } else {
                    assert_eq!(way, [from], "{from} -> {to} with {features}");
                }
                for arc in way.windows(2) {
                    assert!(arc[0].is_single_arc(arc[1], features), "{way:?}");
                }
            }
        }
    }

    #[test]
    fn states_are_written_and_read_by_the_kernels_names() {
        for state in State::ALL {
            let written = serde_json::to_string(&state).unwrap();
            assert_eq!(written, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<State>(&written).unwrap(), state);
        }
    }

    #[test]
    fn recovery_of_a_failed_begin_is_what_the_device_did_before() {
        for to in [PreCopy, PreCopyP2p, StopCopy] {
            assert_eq!(Running.recover(to), Recover::To(Running));
            assert_eq!(RunningP2p.recover(to), Recover::To(RunningP2p));
            assert_eq!(Stop.recover(to), Recover::To(Stop));
        }
        assert_eq!(PreCopy.recover(StopCopy), Recover::To(Running));
        assert_eq!(PreCopy.recover(PreCopyP2p), Recover::To(Running));
        assert_eq!(PreCopyP2p.recover(StopCopy), Recover::To(RunningP2p));
        assert_eq!(Running.recover(RunningP2p), Recover::To(Running));
        assert_eq!(Running.recover(Stop), Recover::To(Running));
    }

    #[test]
    fn recovery_of_a_failed_end_is_a_second_try() {
        for (from, to) in [
            (StopCopy, Stop),
            (StopCopy, Running),
            (Stop, Running),
            (Stop, RunningP2p),
            (RunningP2p, Running),
            (PreCopy, Running),
            (PreCopyP2p, Running),
            (PreCopyP2p, RunningP2p),
        ] {
            assert_eq!(from.recover(to), Recover::To(to), "{from} -> {to}");
        }
    }

    #[test]
    fn recovery_of_a_failed_load_is_a_reset() {
        for state in State::ALL {
            assert_eq!(state.recover(Resuming), Recover::Reset);
            assert_eq!(Resuming.recover(state), Recover::Reset);
        }
    }

    #[test]
    fn recovery_never_leads_where_the_device_cannot_go() {
        for features in feature_sets() {
            for (from, to) in all_pairs().filter(|(from, to)| from.can_go(*to, features)) {
                if let Recover::To(back) = from.recover(to) {
                    assert!(!back.has_session() && back.exists(features), "{from} -> {to}: {back}");
                }
            }
        }
    }

    #[test]
    fn features_forget_flags_of_the_future_and_name_the_others() {
        let features = Features::from_kernel(0b1111_0101);

        assert_eq!(features.to_string(), "STOP_COPY PRE_COPY");
        assert!(features.stop_copy() && !features.p2p() && features.pre_copy());
    }
}

//! Attacks on the `ringlift` command from outside: processes are killed around the commit, the network between them is
//! damaged, and what they need runs out. `docs/SAFETY.md` says how a transfer may end then, and nothing else is allowed.
//!
//! Here are small numbers of runs; `tools/attack` makes hundreds. A failing run names its seed:
//! `RINGLIFT_SEED=n cargo test --test attack kills` repeats that one alone. It repeats what is done, and not when the
//! kernel lets each process run, so a rare outcome may need several attempts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "watches processes from outside, where there is no ring to wait on"
)]
#![expect(clippy::print_stdout, reason = "tells how the runs ended, and what could not run")]

#[path = "attack/arena.rs"]
mod arena;
#[path = "attack/chaos.rs"]
mod chaos;
#[path = "attack/dice.rs"]
mod dice;
#[path = "attack/kills.rs"]
mod kills;
#[path = "attack/outcome.rs"]
mod outcome;
#[path = "attack/proxy.rs"]
mod proxy;
#[path = "attack/runs.rs"]
mod runs;
#[path = "attack/side.rs"]
mod side;
#[path = "attack/starvation.rs"]
mod starvation;

//! Many runs of one attack, some at a time. Knows nothing of what a run does. Invariant: a failed run is reported with
//! its seed, and no run is repeated until it succeeds.

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::thread;

/// Runs at the same time: most of them wait most of the time.
const AT_A_TIME: usize = 4;

/// How a run ended: in few words, for the statistics, or what is wrong.
pub(crate) type Ran = Result<String, String>;

/// How many runs the environment asks for.
pub(crate) fn asked() -> Option<u64> {
    let count = env::var("RINGLIFT_ATTACK_RUNS").ok()?;
    Some(count.parse().expect("RINGLIFT_ATTACK_RUNS is a number"))
}

/// The seeds of an attack: the one in the environment; as many as it asks for, new ones each time; or 0, 1, 2…
fn seeds(count: u64) -> Vec<u64> {
    if let Ok(seed) = env::var("RINGLIFT_SEED") {
        return vec![seed.parse().expect("RINGLIFT_SEED is a number")];
    }
    match asked() {
        // short enough to be typed
        Some(count) => (0..count).map(|run| RandomState::new().hash_one(run) >> 24).collect(),
        None => (0..count).collect(),
    }
}

/// Runs `attack` once for each seed.
pub(crate) fn attack(name: &str, count: u64, run: impl Fn(u64) -> Ran + Sync) {
    let again = |seed| format!("RINGLIFT_SEED={seed} cargo test --test attack {name}");
    each(name, &seeds(count), again, run);
}

/// Runs something for each item, and fails when any of them did.
pub(crate) fn each<T: Copy + Sync>(
    name: &str,
    items: &[T],
    again: impl Fn(T) -> String + Sync,
    run: impl Fn(T) -> Ran + Sync,
) {
    let next = Mutex::new(items.iter());
    let (seen, failed) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    let take = || next.lock().unwrap().next().copied();
    let work = || {
        while let Some(item) = take() {
            match panic::catch_unwind(AssertUnwindSafe(|| run(item))) {
                Ok(Ok(ending)) => *seen.lock().unwrap().entry(ending).or_default() += 1,
                Ok(Err(wrong)) => failed.lock().unwrap().push(format!("{}\n{wrong}", again(item))),
                Err(_) => failed.lock().unwrap().push(format!("{}\nthe run itself panicked", again(item))),
            }
        }
    };
    thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let (seen, failed) = (seen.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("{name}: {} runs", items.len());
    seen.iter().for_each(|(ending, count)| println!("{count:>6}  {ending}"));
    assert!(failed.is_empty(), "{} of {} runs failed:\n\n{}", failed.len(), items.len(), failed.join("\n\n"));
}

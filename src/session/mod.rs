//! Station 7: the protocol as state machines, sans-IO.
//!
//! Nothing here knows a descriptor, a thread or a clock: messages and packets are passed in with the time, and what to
//! do next comes out. Payloads are an opaque handle `H`, so tests use plain integers. [`sender::SenderSession`] and
//! [`receiver::ReceiverSession`] mirror each other; the smaller machines each keep one promise: [`reorder`] order and
//! completeness, [`credit`] bounded memory, [`handover`] that at most one side runs, [`liveness`] that nothing hangs.

pub(crate) mod abort_code;
pub(crate) mod agreement;
pub(crate) mod clock;
pub(crate) mod credit;
pub(crate) mod handover;
pub(crate) mod index_set;
pub(crate) mod liveness;
pub(crate) mod other_side;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod receiver;
pub(crate) mod reorder;
pub(crate) mod round_robin;
pub(crate) mod sender;
pub(crate) mod totals;
pub(crate) mod warm_up;

//! What the caller has after a transfer: what became of each device, the devices that are in doubt, and their own errors.

mod common;

use std::error::Error as _;

use common::device::{Journal, TestSink, TestSource, Trouble, failure};
use common::outcome::{assert_aborted, assert_complete};
use common::{content, listen, pair, run, send};
use ringlift::error::{DeviceError, Error};
use ringlift::sink::{Sink, Verify};
use ringlift::source::{Flow, Source, Synthetic};
use ringlift::{Cancel, EndState, Finished, HookPanic, Outcome, Parked};

fn end(finished: &Finished) -> &EndState {
    let [device] = &finished.devices[..] else { unreachable!("one device: {:?}", finished.devices) };
    assert_eq!((&*device.name, device.instance), ("net0", 0));
    &device.end
}

/// A transfer that ends in doubt: the sender's end, and the journal of its device.
fn in_doubt() -> (Finished, Journal) {
    let (source, from) = TestSource::new(content(1000));
    let (sink, to) = TestSink::new();
    to.expect("run", Trouble::Fail);
    to.expect("rollback", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    assert_eq!(sent.outcome, Outcome::InDoubt);
    assert_eq!((end(&sent), end(&received)), (&EndState::Parked, &EndState::Unknown(failure())));
    (sent, from)
}

#[test]
fn a_parked_device_whose_return_failed_is_still_there_and_can_be_returned_again() {
    let (sent, from) = in_doubt();
    let mut parked = sent.parked.into_iter().next().expect("one device");
    assert_eq!((&*parked.name, parked.instance), ("net0", 0));
    for trouble in [Trouble::Fail, Trouble::Panic] {
        from.expect("rollback", trouble);
        parked.take_back().expect_err("it fails, as told");
    }
    from.let_go("rollback");
    assert_eq!(parked.take_back(), Ok(()));
    let steps = from.steps();
    assert!(steps.ends_with(&["park", "rollback", "rollback", "rollback"]), "{steps:?}");

    let (sent, from) = in_doubt();
    let mut parked = sent.parked.into_iter().next().expect("one device");
    from.expect("release", Trouble::Fail);
    assert_eq!(parked.release(), Err(failure()));
    from.let_go("release");
    assert_eq!(parked.release(), Ok(()));
}

#[test]
fn a_parked_device_is_given_back_as_what_it_was() {
    let (sent, from) = in_doubt();
    let parked = sent.parked.into_iter().next().expect("one device");
    let parked = parked.downcast::<Synthetic>().expect_err("it is none");
    assert_eq!(&*parked.name, "net0");
    let mut source: TestSource = parked.downcast().expect("it is one");
    assert_eq!(source.at, 1000, "with its state");
    source.rollback().expect("it is ours again");
    assert_eq!(from.steps().last(), Some(&"rollback"));

    let (sent, _) = in_doubt();
    let mut source = sent.parked.into_iter().next().expect("one device").into_source();
    assert_eq!(source.release(), Ok(()));
}

#[test]
fn what_a_transfer_gives_back_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Parked>();
    is_shared::<HookPanic>();
    is_shared::<Finished>();
}

#[test]
fn each_device_says_where_it_is_after_a_transfer() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert_eq!((end(&sent), end(&received)), (&EndState::Released, &EndState::Runs));

    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Fail);
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), sink);
    let (sent, received) = run(sender, receiver);
    assert_aborted(&sent);
    assert_eq!((end(&sent), end(&received)), (&EndState::Back, &EndState::Back));

    let cancel = Cancel::new();
    cancel.cancel();
    let (sender, _) = pair(&listener, Synthetic::new(1000), Verify::new());
    assert_eq!(end(&send(sender.cancel(&cancel)).finish()), &EndState::Untouched);
}

#[test]
fn devices_of_a_transfer_that_ends_before_they_are_started_are_untouched() {
    let (sink, to) = TestSink::new();
    to.expect("prepare", Trouble::Fail);
    let (source, from) = TestSource::new(content(1000));
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    assert!(!from.did("start"));
    assert_eq!((end(&sent), end(&received)), (&EndState::Untouched, &EndState::Back));
}

#[test]
fn a_device_that_cannot_be_brought_back_says_why() {
    let (source, from) = TestSource::new(content(1000));
    from.expect("stop", Trouble::Fail);
    from.expect("rollback", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, TestSink::new().0);
    let (sent, _) = run(sender, receiver);
    assert_eq!(end(&sent), &EndState::Unknown(failure()));
}

/// A device that is reset when it is rolled back, and whose checks fail with an error of its author's.
struct Own {
    was_reset: bool,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("firmware {0} is too old")]
struct TooOld(u32);

impl Sink for Own {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        Err(DeviceError::custom(TooOld(7)))
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.was_reset = true;
        Ok(())
    }
    fn was_reset(&self) -> bool {
        self.was_reset
    }
}

impl Source for Own {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        Err(DeviceError::custom("not today"))
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[test]
fn a_sink_that_was_reset_and_an_embedders_own_error_arrive_as_they_are() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Own { was_reset: false });
    let (sent, received) = run(sender, receiver);
    assert_eq!(end(&received), &EndState::Reset);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: firmware 7 is too old");
    assert!(matches!(error, Error::Device { error, .. } if error == error), "an error equals itself");
    let device = error.source().expect("a device error");
    let own = device.source().and_then(|own| own.downcast_ref::<TooOld>());
    assert_eq!(own, Some(&TooOld(7)));
    assert!(assert_aborted(&sent).to_string().contains("firmware 7 is too old"));

    let (sender, receiver) = pair(&listener, Own { was_reset: false }, Verify::new());
    let (sent, _) = run(sender, receiver);
    assert_eq!(assert_aborted(&sent).to_string(), "device net0: not today");
}

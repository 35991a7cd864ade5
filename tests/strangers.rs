//! Strangers who waste a listener's time, each in another way, while a transfer has to get through.

#![expect(clippy::disallowed_methods, reason = "an attack takes its time, and a transfer under it is timed")]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::peer::{control_bytes, dial, greet, hello_bytes};
use common::{listen, pair, receive, send};
use ringlift::Outcome;
use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::wire::{Control, HELLO_LEN, Role, SessionId};

/// What one transfer may take, strangers or not: less than the time limit of a single hello.
const BOUND: Duration = Duration::from_secs(4);

/// Runs three transfers while `attack` goes on, each within the bound.
fn gets_through(attack: impl FnOnce(SocketAddr, &AtomicBool) + Send + 'static) {
    let listener = listen();
    let (addr, over) = (listener.local_addr(), Arc::new(AtomicBool::new(false)));
    let attacker: JoinHandle<()> = std::thread::spawn({
        let over = Arc::clone(&over);
        move || attack(addr, &over)
    });
    // the attack is under way
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..3 {
        let (sender, receiver) = pair(&listener, Synthetic::new(1 << 20), Verify::new());
        let began = Instant::now();
        let receiving = receive(receiver);
        let sent = send(sender).finish();
        // first, because a receiver waits on for another sender
        assert!(sent.error.is_none(), "{:?}", sent.error);
        let received = receiving.finish();
        let took = began.elapsed();
        assert!(received.error.is_none(), "{:?}", received.error);
        assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
        assert!(took < BOUND, "{took:?}");
    }
    over.store(true, Ordering::Relaxed);
    attacker.join().expect("the attack went on");
}

fn session(number: u64) -> SessionId {
    SessionId((u128::from(number) | 1 << 100).to_be_bytes())
}

/// Does `step` with a number that grows until it is over, not faster than once in `pause`.
fn again(over: &AtomicBool, pause: Duration, mut step: impl FnMut(u64)) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        step(number);
        number += 1;
        std::thread::sleep(pause);
    }
}

#[test]
fn silent_connections_do_not_shut_the_door() {
    // 128 of them did: a sender that came was refused after 5 s.
    gets_through(|addr, over| {
        let silent: Vec<TcpStream> = (0..128).map(|_| dial(addr)).collect();
        again(over, Duration::from_millis(10), |_| {});
        drop(silent);
    });
}

#[test]
fn silent_connections_that_are_renewed_do_not_shut_the_door() {
    gets_through(|addr, over| {
        let mut silent: Vec<TcpStream> = (0..128).map(|_| dial(addr)).collect();
        again(over, Duration::from_millis(5), |_| {
            silent.remove(0);
            silent.push(dial(addr));
        });
    });
}

#[test]
fn hellos_that_come_byte_by_byte_do_not_shut_the_door() {
    gets_through(|addr, over| {
        let mut slow: Vec<TcpStream> = (0..128).map(|_| dial(addr)).collect();
        let hello = hello_bytes(session(0), Role::Control { channels: 1 });
        again(over, Duration::from_millis(100), |number| {
            let at = usize::try_from(number).expect("short") % HELLO_LEN;
            for stream in &mut slow {
                // it may have been closed
                let _ = stream.write_all(&hello[at..=at]);
            }
        });
    });
}

#[test]
fn sessions_that_announce_channels_and_bring_none_keep_nobody_out() {
    // None of 8 transfers got through.
    gets_through(|addr, over| {
        let mut gathering: Vec<TcpStream> = Vec::new();
        again(over, Duration::from_millis(1), |number| {
            let mut control = dial(addr);
            let hello = hello_bytes(session(number), Role::Control { channels: 255 });
            let _ = control.write_all(&hello);
            gathering.push(control);
            if gathering.len() > 200 {
                gathering.remove(0);
            }
        });
    });
}

#[test]
fn complete_sessions_without_settings_keep_nobody_out() {
    // One of them held the receiver for as long as it sent heartbeats, or its settings byte by byte.
    gets_through(|addr, over| {
        let mut sessions: Vec<_> = (0..8).map(|_| greet(addr, 1)).collect();
        let beat = control_bytes(&Control::Heartbeat);
        again(over, Duration::from_millis(100), |number| {
            for (which, session) in sessions.iter_mut().enumerate() {
                let at = usize::try_from(number).expect("short") % beat.len();
                // half of them one byte at a time
                session.write(if which % 2 == 0 { &beat } else { &beat[at..=at] });
            }
        });
    });
}

#[test]
fn a_session_that_drips_after_its_hello_does_not_take_the_receiver() {
    let listener = listen();
    let addr = listener.local_addr();
    let mut stranger = greet(addr, 1);
    let (_, receiver) = pair(&listener, Synthetic::new(1), Verify::new());
    let receiving = receive(receiver);
    let dripped = control_bytes(&Control::Cancel);
    stranger.write(&dripped[..dripped.len() - 1]);
    let (sender, _) = pair(&listener, Synthetic::new(1 << 20), Verify::new());
    let began = Instant::now();
    let sent = send(sender).finish();
    assert_eq!(sent.outcome, Outcome::Complete, "{:?}", sent.error);
    assert!(receiving.finish().error.is_none() && began.elapsed() < BOUND);
}

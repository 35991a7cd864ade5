//! One connection of the endpoint: a request comes, an answer goes, and the peer closes. Never waits.
//!
//! Invariant: it holds at most a request and an answer, and has a deadline for all of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::http::{self, Answer, REQUEST_MAX, Status};

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// When it is closed, whatever it is doing.
    pub(super) deadline: Instant,
    state: State,
}

enum State {
    /// What has come of the request.
    Reading(Vec<u8>),
    /// The answer, and how much of it has been sent.
    Writing(Vec<u8>, usize),
    /// All has been sent: whoever closes first with something unread would destroy it.
    Draining,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Again,
    /// Nothing is possible until the socket is ready.
    Wait,
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> Connection {
        Connection { stream, deadline, state: State::Reading(Vec::new()) }
    }

    /// Whether it waits for room to write, and not for bytes to read.
    pub(super) fn writes(&self) -> bool {
        matches!(self.state, State::Writing(..))
    }

    /// Does what can be done now. A page that cannot be made is an error for the peer alone.
    pub(super) fn go_on(&mut self, page: &impl Fn() -> String) -> Next {
        loop {
            match self.step(page) {
                Next::Again => {}
                next => return next,
            }
        }
    }

    fn step(&mut self, page: &impl Fn() -> String) -> Next {
        let mut buffer = [0; REQUEST_MAX];
        match &mut self.state {
            State::Reading(request) => {
                let came = match self.stream.read(&mut buffer[request.len()..]) {
                    Ok(0) => return Next::Close,
                    Ok(len) => len,
                    Err(error) => return after(error.kind()),
                };
                let begun = request.len();
                request.extend(&buffer[begun..begun + came]);
                if let Some(answer) = http::answer(request) {
                    self.state = State::Writing(bytes(answer, page), 0);
                }
                Next::Again
            }
            State::Writing(answer, sent) if *sent == answer.len() => {
                self.state = State::Draining;
                match self.stream.shutdown(Shutdown::Write) {
                    Ok(()) => Next::Again,
                    Err(_) => Next::Close,
                }
            }
            State::Writing(answer, sent) => match self.stream.write(&answer[*sent..]) {
                Ok(len) => {
                    *sent += len;
                    Next::Again
                }
                Err(error) => after(error.kind()),
            },
            State::Draining => match self.stream.read(&mut buffer) {
                Ok(0) => Next::Close,
                // one piece at a time: a peer that never stops does not keep the others waiting
                Ok(_) => Next::Wait,
                Err(error) => after(error.kind()),
            },
        }
    }
}

fn after(error: ErrorKind) -> Next {
    match error {
        ErrorKind::Interrupted => Next::Again,
        ErrorKind::WouldBlock => Next::Wait,
        _ => Next::Close,
    }
}

fn bytes(answer: Answer, page: &impl Fn() -> String) -> Vec<u8> {
    if answer.status != Status::Page {
        return http::bytes(answer, "");
    }
    // what the page is made of is not changed by making it
    match catch_unwind(AssertUnwindSafe(page)) {
        Ok(page) => http::bytes(answer, &page),
        Err(_) => http::bytes(Answer { status: Status::Failed, ..answer }, ""),
    }
}

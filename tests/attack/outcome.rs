//! The judge of a run: which ends `docs/SAFETY.md` allows. Knows how both processes ended and what the files are, and
//! nothing of what was done to them, except which signals they got.

use nix::sys::signal::Signal;

use crate::arena::{Arena, Is};
use crate::side::{Ended, Fate};

const COMPLETE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const IN_DOUBT: i32 = 3;
const REFUSED: i32 = 4;
const CANCELLED: i32 = 130;

/// The end of a transfer.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sender: Fate,
    pub(crate) receiver: Fate,
    pub(crate) files: Vec<Is>,
    /// Devices whose state is gone from the source.
    pub(crate) lost: Vec<String>,
    /// Names that do not belong at the destination.
    pub(crate) leftovers: Vec<String>,
    /// What the files were before the receiver was started again.
    before_restart: Option<&'static str>,
}

impl Fate {
    fn is(&self, status: i32) -> bool {
        self.end.ended == Ended::Status(status)
    }

    fn was_killed(&self) -> bool {
        self.signal == Some(Signal::SIGKILL) && self.end.ended == Ended::Signal(Signal::SIGKILL as i32)
    }

    /// It gave up, and reported that.
    fn is_aborted(&self) -> bool {
        [FAILED, USAGE, REFUSED, CANCELLED].into_iter().any(|status| self.is(status))
    }

    /// What is wrong with this side alone.
    fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        match self.end.ended {
            Ended::Never => faults.push(format!("the {name} did not end within its bounds")),
            Ended::Status(CANCELLED) if self.signal == Some(Signal::SIGTERM) => {}
            Ended::Status(COMPLETE) => {}
            Ended::Status(FAILED | USAGE | IN_DOUBT | REFUSED) => {
                let errors = self.end.words.lines().filter(|line| line.starts_with("error: ")).count();
                if errors != 1 {
                    faults.push(format!("the {name} failed with {errors} errors instead of one"));
                }
            }
            Ended::Signal(_) if self.was_killed() => {}
            Ended::Status(_) | Ended::Signal(_) => {
                faults.push(format!("the {name} ended with {:?}", self.end.ended));
            }
        }
        if self.end.words.contains("panicked at") {
            faults.push(format!("the {name} panicked"));
        }
        faults
    }
}

impl Outcome {
    pub(crate) fn of(arena: &Arena, sender: Fate, receiver: Fate) -> Outcome {
        let (files, lost, leftovers) = (arena.files(), arena.lost(), arena.leftovers());
        Outcome { sender, receiver, files, lost, leftovers, before_restart: None }
    }

    pub(crate) fn receiver_was_killed(&self) -> bool {
        self.receiver.was_killed()
    }

    /// The end in few words.
    pub(crate) fn summary(&self) -> String {
        let files = match self.before_restart {
            Some(before) => format!("{before}, after the next start {}", files(&self.files)),
            None => files(&self.files).to_owned(),
        };
        format!("sender {:?}, receiver {:?}, files {files}", self.sender.end.ended, self.receiver.end.ended)
    }

    /// Everything that is not allowed.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = [self.sender.faults("sender"), self.receiver.faults("receiver")].concat();
        for (number, file) in self.files.iter().enumerate() {
            if let Is::Neither(found) = file {
                faults.push(format!("file {number} is neither old nor new: {found}"));
            }
        }
        faults.extend(self.lost.iter().map(|device| format!("the source lost the state of {device}")));
        let all = |wanted: Is| self.files.iter().all(|file| *file == wanted);
        for (side, name) in [(&self.sender, "sender"), (&self.receiver, "receiver")] {
            if side.is(COMPLETE) && !all(Is::New) {
                faults.push(format!("the {name} reports complete, and not all files are new"));
            }
            if side.is_aborted() && !all(Is::Old) {
                faults.push(format!("the {name} reports aborted, and not all files are old"));
            }
        }
        if self.receiver.is(IN_DOUBT) {
            faults.push("a receiver is never in doubt".to_owned());
        }
        if !self.receiver_was_killed() && !self.leftovers.is_empty() {
            faults.push(format!("a receiver that lived left {:?} behind", self.leftovers));
        }
        faults
    }

    /// Looks at the destination again, after a receiver that was killed has been started again; returns what is wrong
    /// now.
    pub(crate) fn faults_after_restart(&mut self, arena: &Arena) -> Vec<String> {
        self.before_restart = Some(files(&self.files));
        self.files = arena.files();
        let mut faults = self.faults();
        let is_one = [Is::Old, Is::New].iter().any(|one| self.files.iter().all(|file| file == one));
        if !is_one {
            faults.push("after the next start some files are new and some old".to_owned());
        }
        // documented: an empty file that may be deleted
        let leftovers: Vec<_> =
            arena.leftovers().into_iter().filter(|name| !name.ends_with(".probe")).collect();
        if !leftovers.is_empty() {
            faults.push(format!("after the next start {leftovers:?} is left"));
        }
        faults
    }

    /// The summary, or the faults with everything that helps to explain them.
    pub(crate) fn verdict(&self, faults: &[String], done: &str) -> Result<String, String> {
        if faults.is_empty() {
            return Ok(self.summary());
        }
        Err(format!(
            "{}\ndone: {done}\n{}\nfiles: {:?}\n--- sender\n{}--- receiver\n{}",
            faults.join("\n"),
            self.summary(),
            self.files,
            self.sender.end.words,
            self.receiver.end.words
        ))
    }
}

fn files(files: &[Is]) -> &'static str {
    match files.iter().filter(|file| **file == Is::New).count() {
        0 => "old",
        new if new == files.len() => "new",
        _ => "some new, some old",
    }
}

mod tests {
    use Is::{New, Old};

    use super::*;
    use crate::side::End;

    const KILLED: Ended = Ended::Signal(Signal::SIGKILL as i32);

    fn fate(ended: Ended) -> Fate {
        let words = match ended {
            Ended::Status(FAILED | USAGE | IN_DOUBT | REFUSED) => {
                "error: it broke\nhint: mend it\n".to_owned()
            }
            _ => String::new(),
        };
        Fate::new(End { ended, words }, (ended == KILLED).then_some(Signal::SIGKILL))
    }

    fn outcome(sender: Ended, receiver: Ended, files: &[Is]) -> Outcome {
        let (sender, receiver, files) = (fate(sender), fate(receiver), files.to_vec());
        Outcome { sender, receiver, files, lost: Vec::new(), leftovers: Vec::new(), before_restart: None }
    }

    #[test]
    fn every_documented_end_is_allowed() {
        let [complete, failed, in_doubt] = [COMPLETE, FAILED, IN_DOUBT].map(Ended::Status);
        for (sender, receiver, files) in [
            (complete, complete, &[New, New]),
            (failed, failed, &[Old, Old]),
            (in_doubt, complete, &[New, New]),
            (in_doubt, failed, &[Old, Old]),
            (in_doubt, KILLED, &[New, Old]),
            (complete, KILLED, &[New, New]),
            (KILLED, complete, &[New, New]),
            (KILLED, failed, &[Old, Old]),
        ] {
            assert_eq!(outcome(sender, receiver, files).faults(), [""; 0], "{sender:?}, {receiver:?}");
        }
    }

    #[test]
    fn a_device_on_both_sides_or_on_none_is_found() {
        let [complete, failed, in_doubt] = [COMPLETE, FAILED, IN_DOUBT].map(Ended::Status);
        for (sender, receiver, files) in [
            (failed, KILLED, &[New, New]),
            (failed, KILLED, &[Old, New]),
            (failed, complete, &[New, New]),
            (complete, KILLED, &[New, Old]),
            (complete, KILLED, &[Old, Old]),
            (complete, failed, &[Old, Old]),
            (in_doubt, complete, &[New, Old]),
            (in_doubt, failed, &[New, Old]),
            (in_doubt, in_doubt, &[Old, Old]),
            (in_doubt, KILLED, &[Old, Is::Neither(String::new())]),
        ] {
            assert_ne!(outcome(sender, receiver, files).faults(), [""; 0], "{sender:?}, {receiver:?}");
        }
        let lost = Outcome { lost: vec!["d0".to_owned()], ..outcome(failed, failed, &[Old]) };
        assert_eq!(lost.faults().len(), 1);
        let left = Outcome { leftovers: vec![".d0.part".to_owned()], ..outcome(failed, failed, &[Old]) };
        assert_eq!(left.faults().len(), 1);
    }

    #[test]
    fn an_end_that_is_no_end_of_a_command_is_found() {
        for ended in [Ended::Never, Ended::Status(101), Ended::Status(CANCELLED), Ended::Signal(6)] {
            assert_ne!(outcome(ended, Ended::Status(FAILED), &[Old]).faults(), [""; 0], "{ended:?}");
            assert_ne!(outcome(Ended::Status(FAILED), ended, &[Old]).faults(), [""; 0], "{ended:?}");
        }
        let mut silent = outcome(Ended::Status(FAILED), Ended::Status(FAILED), &[Old]);
        silent.sender.end.words.clear();
        assert_eq!(silent.faults().len(), 1);
    }
}

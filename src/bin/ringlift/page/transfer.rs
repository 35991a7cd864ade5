//! What a page is made of: transfers, each with the reports of its sides, as far as they are there.
//!
//! Documents are of version 1 or later, so everything that a later version added may be absent. It must not know how
//! anything is drawn.

use ringlift::report::{Report, Role, TimelineEntry};
use serde::Deserialize;
use serde_json::Value;

/// One transfer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transfer {
    /// What tells it from the others on the page.
    pub(crate) label: String,
    pub(crate) sender: Option<Side>,
    pub(crate) receiver: Option<Side>,
}

/// One side's report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    /// Whether it is a document of its own, and not one that the other side passed on.
    is_own: bool,
    pub(crate) report: Report,
}

impl Side {
    fn of(document: &Value, is_own: bool) -> Result<Side, serde_json::Error> {
        Ok(Side { is_own, report: Report::deserialize(document)? })
    }
}

impl Transfer {
    /// The transfer that a document reports, with the other side's report where it is in there.
    pub(crate) fn of(label: &str, document: &Value) -> Result<Transfer, serde_json::Error> {
        let mut transfer = Transfer { label: label.to_owned(), sender: None, receiver: None };
        transfer.put(Side::of(document, true)?);
        match &document["other_side"] {
            Value::Null => {}
            other => transfer.put(Side::of(other, false)?),
        }
        Ok(transfer)
    }

    /// A side's own document is preferred to the one that was passed on.
    fn put(&mut self, side: Side) {
        let place = match side.report.role {
            Role::Sender => &mut self.sender,
            Role::Receiver => &mut self.receiver,
        };
        if side.is_own || place.is_none() {
            *place = Some(side);
        }
    }

    /// The sides that are there, sender first.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.sender.iter().chain(&self.receiver)
    }

    /// The report of figures that both sides have: the sender's, if it is there.
    pub(crate) fn main(&self) -> Option<&Report> {
        self.sides().next().map(|side| &side.report)
    }

    /// Entries of both timelines: of each side what it measured itself, if its report is there.
    pub(crate) fn timeline(&self) -> Vec<&TimelineEntry> {
        let measured = |side: &&Side| !side.report.timeline.is_empty();
        let known: Vec<Role> = self.sides().filter(measured).map(|side| side.report.role).collect();
        let mut entries = Vec::new();
        for side in self.sides() {
            let is_its_own =
                |entry: &&TimelineEntry| entry.side == side.report.role || !known.contains(&entry.side);
            entries.extend(side.report.timeline.iter().filter(is_its_own));
        }
        entries
    }

    /// Whether `later` is the other side of the same transfer. Version 1 knows no sessions; there, a receiver that stands
    /// directly behind its sender in a file is taken for one, as `demo` writes them.
    fn is_joined_by(&self, later: &Transfer, adjoins: bool) -> bool {
        let (Some(one), Some(other)) = (self.main(), later.main()) else { return false };
        let (own, others) = (self.own(), later.own());
        match (&one.session, &other.session) {
            (Some(one), Some(other)) => one == other && !own.iter().any(|role| others.contains(role)),
            (None, None) => {
                adjoins && own == [Role::Sender] && others == [Role::Receiver] && names(one) == names(other)
            }
            _ => false,
        }
    }

    /// The sides whose own documents are there.
    fn own(&self) -> Vec<Role> {
        self.sides().filter(|side| side.is_own).map(|side| side.report.role).collect()
    }
}

fn names(report: &Report) -> Vec<(&str, u32)> {
    report.devices.iter().map(|device| (&*device.name, device.instance)).collect()
}

/// Puts the two sides of a transfer together, and gives every transfer a label of its own. Each comes with the number of
/// its file.
pub(crate) fn joined(found: Vec<(usize, Transfer)>) -> Vec<Transfer> {
    let mut joined: Vec<(usize, Transfer)> = Vec::new();
    for (file, transfer) in found {
        let last = joined.len().checked_sub(1);
        let partner = joined.iter_mut().enumerate().find(|(place, (of_file, earlier))| {
            earlier.is_joined_by(&transfer, Some(*place) == last && *of_file == file)
        });
        match partner {
            Some((_, (_, earlier))) => {
                transfer.sender.into_iter().chain(transfer.receiver).for_each(|side| earlier.put(side));
            }
            None => joined.push((file, transfer)),
        }
    }
    let mut transfers: Vec<Transfer> = joined.into_iter().map(|(_, transfer)| transfer).collect();
    number_labels(&mut transfers);
    transfers
}

/// Labels that occur more than once get a number.
fn number_labels(transfers: &mut [Transfer]) {
    let labels: Vec<String> = transfers.iter().map(|transfer| transfer.label.clone()).collect();
    for (place, transfer) in transfers.iter_mut().enumerate() {
        let before = labels[..place].iter().filter(|label| **label == transfer.label).count();
        if labels.iter().filter(|label| **label == transfer.label).count() > 1 {
            transfer.label = format!("{} ({})", transfer.label, before + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(role: &str, session: Option<&str>) -> Value {
        let text = include_str!("../../../../tests/fixtures/reports/sender.json");
        let mut document: Value = serde_json::from_str(text).unwrap();
        document["role"] = json!(role);
        document["session"] = json!(session);
        document
    }

    fn of(documents: &[(usize, Value)]) -> Vec<Transfer> {
        let transfer = |(file, document): &(usize, Value)| (*file, Transfer::of("run", document).unwrap());
        joined(documents.iter().map(transfer).collect())
    }

    #[test]
    fn sides_of_one_session_are_one_transfer() {
        let [sender, receiver] = ["sender", "receiver"].map(|role| document(role, Some("ab")));
        let transfers = of(&[(0, receiver), (1, document("sender", Some("cd"))), (2, sender)]);
        assert_eq!(transfers.len(), 2);
        assert_eq!(transfers[0].sides().count(), 2);
        assert_eq!(transfers[0].main().unwrap().role, Role::Sender);
        assert_eq!([&*transfers[0].label, &transfers[1].label], ["run (1)", "run (2)"]);
    }

    #[test]
    fn without_sessions_a_receiver_behind_its_sender_in_one_file_belongs_to_it() {
        let [sender, receiver] = ["sender", "receiver"].map(|role| document(role, None));
        assert_eq!(of(&[(0, sender.clone()), (0, receiver.clone())]).len(), 1);
        assert_eq!(of(&[(0, sender.clone()), (1, receiver.clone())]).len(), 2, "another file");
        assert_eq!(of(&[(0, receiver.clone()), (0, sender.clone())]).len(), 2, "the wrong order");
        let mut other = receiver;
        other["devices"][0]["name"] = json!("other");
        assert_eq!(of(&[(0, sender), (0, other)]).len(), 2, "other devices");
    }

    #[test]
    fn the_other_sides_report_is_found_inside_and_the_own_one_is_preferred() {
        let mut sender = document("sender", Some("ab"));
        sender["other_side"] = document("receiver", Some("ab"));
        assert_eq!(of(&[(0, sender.clone())])[0].sides().count(), 2);
        let mut receiver = document("receiver", Some("ab"));
        receiver["bytes"] = json!(7);
        receiver["other_side"] = document("sender", Some("ab"));
        let transfers = of(&[(0, sender), (1, receiver)]);
        assert_eq!(transfers.len(), 1);
        assert_eq!(transfers[0].receiver.as_ref().unwrap().report.bytes, 7);
    }

    #[test]
    fn each_side_answers_for_its_own_part_of_the_timeline() {
        let entry = |side: &str, begin: u64| {
            json!({
                "side": side, "device": null, "channel": null, "what": "run", "from": null, "to": null,
                "begin_ns": begin, "end_ns": 9
            })
        };
        let mut sender = document("sender", Some("ab"));
        sender["timeline"] = json!([entry("sender", 1), entry("receiver", 2)]);
        let begins = |transfers: &[Transfer]| {
            transfers[0].timeline().iter().map(|entry| entry.begin_ns).collect::<Vec<_>>()
        };
        assert_eq!(begins(&of(&[(0, sender.clone())])), [1, 2]);
        let mut receiver = document("receiver", Some("ab"));
        receiver["timeline"] = json!([entry("receiver", 3)]);
        assert_eq!(begins(&of(&[(0, sender), (1, receiver)])), [1, 3]);
    }
}

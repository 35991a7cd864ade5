//! QEMU's description, at the end of a main connection, of the full sections in it: names, versions and sizes, as JSON
//! text.
//!
//! Pure: text in, steps out. The caller bounds the text, the parser bounds its depth, and fields are summed up as they
//! come, so memory is at most a few times the text. The description is compared with the stream, never trusted.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The description of all full sections, in stream order.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    pub(super) devices: Vec<Section>,
}

/// One full section.
#[derive(Debug, Deserialize)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) instance_id: u32,
    /// Present only for sections made with QEMU's own description language.
    pub(super) version: Option<u32>,
    #[serde(default, deserialize_with = "fold::<Field, _>")]
    fields: Vec<Step>,
    #[serde(default, deserialize_with = "fold::<Subsection, _>")]
    subsections: Vec<Step>,
}

/// What a section's content is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// This many bytes of anything.
    Skip(u64),
    /// The header of a subsection.
    Subsection { name: Box<str>, version: u32 },
}

#[derive(Debug, Deserialize)]
struct Field {
    size: Option<u64>,
    /// The number of elements, of which only one is described. Elements that differ have a field each instead.
    array_len: Option<u64>,
    #[serde(rename = "struct")]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize)]
struct Inner {
    #[serde(default, deserialize_with = "fold::<Field, _>")]
    fields: Vec<Step>,
    #[serde(default, deserialize_with = "fold::<Subsection, _>")]
    subsections: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Subsection {
    vmsd_name: Box<str>,
    version: u32,
    #[serde(default, deserialize_with = "fold::<Field, _>")]
    fields: Vec<Step>,
    #[serde(default, deserialize_with = "fold::<Subsection, _>")]
    subsections: Vec<Step>,
}

const NO_SIZE: &str = "a field has no size";
const TOO_LARGE: &str = "the sizes of fields do not fit in 64 bits";
const REPEATED_SUBSECTION: &str = "a field that is repeated has subsections";

impl Description {
    pub(super) fn parse(json: &[u8]) -> Result<Description, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

impl Section {
    /// The section's content from its first byte to its footer.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.fields.iter().chain(&self.subsections)
    }
}

/// A part of a section's content.
trait Part {
    /// Adds the steps it consists of.
    fn add_to(self, steps: &mut Vec<Step>) -> Result<(), &'static str>;
}

impl Part for Field {
    fn add_to(self, steps: &mut Vec<Step>) -> Result<(), &'static str> {
        match (self.inner, self.array_len) {
            (Some(inner), None) => append(steps, inner.fields.into_iter().chain(inner.subsections)),
            (Some(inner), Some(count)) => skip(times(inner.size()?, count)?, steps),
            (None, count) => skip(times(self.size.ok_or(NO_SIZE)?, count.unwrap_or(1))?, steps),
        }
    }
}

impl Part for Subsection {
    fn add_to(self, steps: &mut Vec<Step>) -> Result<(), &'static str> {
        steps.push(Step::Subsection { name: self.vmsd_name, version: self.version });
        append(steps, self.fields.into_iter().chain(self.subsections))
    }
}

impl Inner {
    /// The size of one element of an array. QEMU leaves out the others only if all have the same size, so there are no
    /// subsections.
    fn size(&self) -> Result<u64, &'static str> {
        match (&self.fields[..], &self.subsections[..]) {
            ([], []) => Ok(0),
            ([Step::Skip(size)], []) => Ok(*size),
            _ => Err(REPEATED_SUBSECTION),
        }
    }
}

fn times(size: u64, count: u64) -> Result<u64, &'static str> {
    size.checked_mul(count).ok_or(TOO_LARGE)
}

fn append(steps: &mut Vec<Step>, more: impl Iterator<Item = Step>) -> Result<(), &'static str> {
    for step in more {
        match step {
            Step::Skip(bytes) => skip(bytes, steps)?,
            subsection => steps.push(subsection),
        }
    }
    Ok(())
}

fn skip(bytes: u64, steps: &mut Vec<Step>) -> Result<(), &'static str> {
    match steps.last_mut() {
        Some(Step::Skip(before)) => *before = before.checked_add(bytes).ok_or(TOO_LARGE)?,
        _ => steps.push(Step::Skip(bytes)),
    }
    Ok(())
}

/// Turns a list into steps while reading it, so its fields are never all in memory.
fn fold<'de, P, D>(deserializer: D) -> Result<Vec<Step>, D::Error>
where
    P: Part + Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Fold(PhantomData::<P>))
}

struct Fold<P>(PhantomData<P>);

impl<'de, P: Part + Deserialize<'de>> Visitor<'de> for Fold<P> {
    type Value = Vec<Step>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Step>, A::Error> {
        let mut steps = Vec::new();
        while let Some(part) = list.next_element::<P>()? {
            part.add_to(&mut steps).map_err(A::Error::custom)?;
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Description, serde_json::Error> {
        let json = format!(r#"{{"devices": [{{"name": "timer", "instance_id": 0, "version": 2, {rest}}}]}}"#);
        Description::parse(json.as_bytes())
    }

    fn steps(rest: &str) -> Vec<Step> {
        parse(rest).unwrap().devices[0].steps().cloned().collect()
    }

    fn subsection(name: &str, version: u32) -> Step {
        Step::Subsection { name: name.into(), version }
    }

    #[test]
    fn fields_arrays_and_structs_are_one_length() {
        let found = steps(
            r#""fields": [
                {"name": "a", "type": "uint64", "size": 8},
                {"name": "b", "array_len": 3, "type": "uint16", "size": 2},
                {"name": "c", "index": 0, "size": 1}, {"name": "c", "index": 1, "size": 1},
                {"name": "d", "type": "struct", "struct": {"vmsd_name": "d", "version": 1,
                    "fields": [{"name": "e", "size": 4}]}, "size": 4},
                {"name": "f", "array_len": 2, "type": "struct", "struct": {"vmsd_name": "f", "version": 1,
                    "fields": [{"name": "g", "array_len": 5, "size": 4}]}, "size": 20}]"#,
        );
        assert_eq!(found, [Step::Skip(8 + 6 + 2 + 4 + 40)]);
    }

    #[test]
    fn subsections_follow_the_fields_of_what_they_belong_to() {
        let found = steps(
            r#""fields": [
                {"name": "d", "type": "struct", "struct": {"vmsd_name": "d", "version": 1,
                    "fields": [{"name": "e", "size": 4}],
                    "subsections": [{"vmsd_name": "d/x", "version": 3, "fields": [{"name": "y", "size": 1}]}]}},
                {"name": "z", "size": 16}],
               "subsections": [{"vmsd_name": "t/s", "version": 1, "fields": [{"name": "y", "size": 2}],
                    "subsections": [{"vmsd_name": "t/s/u", "version": 1}]}]"#,
        );
        assert_eq!(
            found,
            [
                Step::Skip(4),
                subsection("d/x", 3),
                Step::Skip(17),
                subsection("t/s", 1),
                Step::Skip(2),
                subsection("t/s/u", 1),
            ]
        );
    }

    #[test]
    fn a_section_that_describes_nothing_is_empty() {
        assert_eq!(steps(r#""fields": []"#), []);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let array = format!(r#""fields": [{{"size": {0}, "array_len": 2}}]"#, u64::MAX);
        let sum = format!(r#""fields": [{{"size": {0}}}, {{"size": {0}}}]"#, u64::MAX);
        let inner = r#"{"fields": [], "subsections": [{"vmsd_name": "s", "version": 1}]}"#;
        for (rest, why) in [
            (r#""fields": [{"name": "a"}]"#.to_owned(), NO_SIZE),
            (array, TOO_LARGE),
            (sum, TOO_LARGE),
            (format!(r#""fields": [{{"array_len": 2, "struct": {inner}}}]"#), REPEATED_SUBSECTION),
        ] {
            let error = parse(&rest).unwrap_err().to_string();
            assert!(error.starts_with(why), "{rest}: {error}");
        }
    }

    #[test]
    fn text_that_is_cut_or_too_deep_is_no_description() {
        for json in [&b""[..], b"{", b"{}", b"[]", br#"{"devices": [{}]}"#, &[b'['; 100_000]] {
            assert!(Description::parse(json).is_err());
        }
        let deep = [&br#"{"devices": "#[..], &[b'['; 100_000]].concat();
        assert!(Description::parse(&deep).is_err());
    }
}

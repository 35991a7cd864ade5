//! The schema of a report: a type that serialises as the schema's name and deserialises from it and from those of
//! earlier versions alone, so that a document of another kind is never mistaken for this one. It knows nothing of what a report contains.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// A report that has its own schema.
pub trait Document {
    /// The schema's name and version: the report's first property.
    const SCHEMA: &'static str;
    /// Names of earlier versions whose documents are read as well; they are written as this version.
    const EARLIER: &'static [&'static str] = &[];
}

/// Stands for the name of the schema of `D`. It holds nothing: each kind of report has one name.
pub struct Schema<D>(PhantomData<fn() -> D>);

impl<D: Document> Schema<D> {
    /// The name as it is written.
    pub const fn name(self) -> &'static str {
        D::SCHEMA
    }
}

// implemented by hand: a derive would require the same traits of `D`
impl<D> Clone for Schema<D> {
    fn clone(&self) -> Schema<D> {
        *self
    }
}

impl<D> Copy for Schema<D> {}

impl<D> Default for Schema<D> {
    fn default() -> Schema<D> {
        Schema(PhantomData)
    }
}

impl<D> PartialEq for Schema<D> {
    fn eq(&self, _: &Schema<D>) -> bool {
        true
    }
}

impl<D> Eq for Schema<D> {}

impl<D: Document> fmt::Debug for Schema<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(D::SCHEMA)
    }
}

impl<D: Document> Serialize for Schema<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(D::SCHEMA)
    }
}

impl<'de, D: Document> Deserialize<'de> for Schema<D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Schema<D>, R::Error> {
        let found = String::deserialize(deserializer)?;
        if found == D::SCHEMA || D::EARLIER.contains(&&*found) {
            return Ok(Schema::default());
        }
        Err(Error::custom(format_args!("the schema is {found:?}, and {:?} was expected", D::SCHEMA)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{CaptureReport, Report};

    #[test]
    fn a_schema_is_read_from_its_own_name_alone() {
        let name = serde_json::to_string(&Schema::<Report>::default()).unwrap();
        assert_eq!(name, "\"ringlift.report.v2\"");
        assert!(serde_json::from_str::<Schema<Report>>(&name).is_ok());
        assert!(
            serde_json::from_str::<Schema<Report>>("\"ringlift.report.v1\"").is_ok(),
            "an earlier version"
        );

        let error = serde_json::from_str::<Schema<CaptureReport>>(&name).unwrap_err().to_string();
        let expected = "the schema is \"ringlift.report.v2\", and \"ringlift.capture.v1\" was expected";
        assert!(error.starts_with(expected), "{error}");
    }
}

//! A validator of JSON schemas. It knows the keywords that ours use and refuses others, so that it cannot miss one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where `value` breaks `schema`; `at` says where both are.
pub(crate) fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = schema.as_object().unwrap();
    schema.iter().flat_map(|(keyword, wanted)| fault(root, schema, keyword, wanted, value, at)).collect()
}

fn fault(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
    at: &str,
) -> Vec<String> {
    let holds = match keyword {
        "$schema" | "$id" | "$defs" | "title" | "description" => true,
        "$ref" => return faults(root, resolve(root, wanted), value, at),
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "anyOf" => wanted.as_array().unwrap().iter().any(|one| faults(root, one, value, at).is_empty()),
        "type" => match wanted {
            Value::Array(types) => types.iter().any(|one| is_of_type(value, one)),
            one => is_of_type(value, one),
        },
        "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|text| text.len() as u64 <= wanted.as_u64().unwrap()),
        "required" => {
            let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            value.as_object().is_none_or(|object| names.clone().all(|name| object.contains_key(name)))
        }
        "additionalProperties" => {
            let known = schema.get("properties").and_then(Value::as_object);
            let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
            let others = value.as_object().into_iter().flatten().filter(|(name, _)| !is_known(name));
            if wanted != &Value::Bool(false) {
                return others
                    .flat_map(|(name, one)| faults(root, wanted, one, &format!("{at}.{name}")))
                    .collect();
            }
            others.count() == 0
        }
        "properties" => {
            let Some(object) = value.as_object() else { return Vec::new() };
            let known = wanted.as_object().unwrap().iter();
            let present = known.filter_map(|(name, one)| Some((name, one, object.get(name)?)));
            return present
                .flat_map(|(name, one, value)| faults(root, one, value, &format!("{at}.{name}")))
                .collect();
        }
        "items" => {
            let items = value.as_array().into_iter().flatten();
            return items.flat_map(|item| faults(root, wanted, item, &format!("{at}[]"))).collect();
        }
        other => panic!("{at}: the validator does not know the keyword {other}"),
    };
    if holds { Vec::new() } else { vec![format!("{at}: {value} breaks {keyword}: {wanted}")] }
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the validator does not know the type {other}"),
    }
}

fn resolve<'a>(root: &'a Value, reference: &Value) -> &'a Value {
    let pointer =
        reference.as_str().and_then(|text| text.strip_prefix('#')).expect("references stay in the schema");
    root.pointer(pointer).expect("a reference names something")
}

/// Every property that the schema has, as paths; `[]` stands for the items of an array.
pub(crate) fn properties_of_schema(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = schema.as_object().unwrap();
    // a document in the document has the same again
    if let Some(reference) = schema.get("$ref").filter(|&reference| reference != "#") {
        properties_of_schema(root, resolve(root, reference), at, found);
    }
    for one in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        properties_of_schema(root, one, at, found);
    }
    if let Some(items) = schema.get("items") {
        properties_of_schema(root, items, &format!("{at}[]"), found);
    }
    for (name, one) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties_of_schema(root, one, &at, found);
        found.insert(at);
    }
}

/// Every property that a report has, the same way.
pub(crate) fn properties_of(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for item in value.as_array().into_iter().flatten() {
        properties_of(item, &format!("{at}[]"), found);
    }
    for (name, one) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties_of(one, &at, found);
        found.insert(at);
    }
}

/// Asserts that the schema allows a report's JSON, and that it is read back unchanged; returns the JSON.
pub(crate) fn valid<R: Serialize + DeserializeOwned + PartialEq + Debug>(
    schema: &Value,
    report: &R,
) -> Value {
    let text = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<R>(&text).unwrap(), report);
    let json = serde_json::to_value(report).unwrap();
    let found = faults(schema, schema, &json, "report");
    assert!(found.is_empty(), "{found:#?}");
    json
}

/// Asserts that a complete report has exactly the properties of the schema, of which there are more than `least`.
pub(crate) fn assert_same_properties(schema: &Value, json: &Value, least: usize) {
    let (mut drawn, mut written) = (BTreeSet::new(), BTreeSet::new());
    properties_of_schema(schema, schema, "", &mut drawn);
    properties_of(json, "", &mut written);
    assert_eq!(drawn, written);
    assert!(drawn.len() > least, "all of them were found");
}

/// Every place in a schema that holds one of a fixed set of words, and these words.
pub(crate) fn schema_words(schema: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    collect_words(schema, "", &mut found);
    found
}

fn collect_words(schema: &Value, at: &str, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for (name, one) in schema.as_object().into_iter().flatten() {
        match one.as_array() {
            Some(words) if name == "enum" => {
                let words = words.iter().filter_map(|word| word.as_str().map(str::to_owned));
                found.insert(at.to_owned(), words.collect());
            }
            _ => collect_words(one, &format!("{at}/{name}"), found),
        }
    }
}

/// Every word that a type deserialises from: serde lists them when it refuses another.
pub(crate) fn type_words<T: DeserializeOwned + Debug>() -> BTreeSet<String> {
    let refusal = serde_json::from_str::<T>("\"\"").unwrap_err().to_string();
    let words: BTreeSet<_> = refusal.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(words.len() > 1, "{refusal}");
    words
}

//! DynamoDB items to and from values, through their JSON form.
//!
//! Only the kinds that Redress's tables hold: strings, integers, booleans, maps, lists, and string sets for
//! settings that people write by hand. Anything else is refused, never dropped.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A DynamoDB item.
pub type Item = HashMap<String, AttributeValue>;

/// An item cannot be read or written as what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// An attribute is of a DynamoDB type that none of our items has.
    #[error("attribute `{name}` has a DynamoDB type that Redress does not write")]
    Type {
        /// The attribute.
        name: String,
    },
    /// The attributes are not those of the item.
    #[error("an item does not read as {what}: {source}")]
    Shape {
        /// What it should have been.
        what: &'static str,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The item holds an attribute that it should not have.
    #[error("{what} holds an unknown attribute `{name}`")]
    Unexpected {
        /// What it should have been.
        what: &'static str,
        /// The attribute.
        name: String,
    },
}

/// The attributes of a value.
///
/// # Errors
/// When the value is no object.
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Item, ItemError> {
    let map: Map<String, Value> = match serde_json::to_value(value) {
        Ok(Value::Object(map)) => Ok(map),
        // It says what is wrong with anything else.
        Ok(other) => serde_json::from_value(other),
        Err(error) => Err(error),
    }
    .map_err(|source| ItemError::Shape { what, source })?;
    Ok(map.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, attribute(value))).collect())
}

/// The value of some attributes. Attributes that the type does not know are ignored.
///
/// # Errors
/// When they are not those of the type.
pub fn decode<T: DeserializeOwned>(what: &'static str, item: &Item) -> Result<T, ItemError> {
    let map = item.iter().map(|(name, value)| Ok((name.clone(), plain(name, value)?))).collect::<Result<_, _>>()?;
    serde_json::from_value(Value::Object(map)).map_err(|source| ItemError::Shape { what, source })
}

/// Like [`decode`], and an attribute that the type does not know is an error: nothing may hide beside what a hash covers.
///
/// # Errors
/// When the attributes are not exactly those of the type.
pub fn decode_exactly<T: Serialize + DeserializeOwned>(what: &'static str, item: &Item) -> Result<T, ItemError> {
    let value: T = decode(what, item)?;
    let known = encode(what, &value)?;
    match item.keys().find(|name| !known.contains_key(*name)) {
        Some(name) => Err(ItemError::Unexpected { what, name: name.clone() }),
        None => Ok(value),
    }
}

fn attribute(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(value),
        Value::Number(value) => AttributeValue::N(value.to_string()),
        Value::String(value) => AttributeValue::S(value),
        Value::Array(values) => AttributeValue::L(values.into_iter().map(attribute).collect()),
        Value::Object(map) => {
            AttributeValue::M(map.into_iter().map(|(name, value)| (name, attribute(value))).collect())
        }
    }
}

fn plain(name: &str, value: &AttributeValue) -> Result<Value, ItemError> {
    Ok(match value {
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::S(value) => Value::String(value.clone()),
        AttributeValue::N(text) => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => return Err(ItemError::Type { name: name.to_owned() }),
        },
        AttributeValue::L(values) => {
            Value::Array(values.iter().map(|value| plain(name, value)).collect::<Result<_, _>>()?)
        }
        AttributeValue::Ss(values) => Value::Array(values.iter().cloned().map(Value::String).collect()),
        AttributeValue::M(map) => Value::Object(
            map.iter().map(|(name, value)| Ok((name.clone(), plain(name, value)?))).collect::<Result<_, _>>()?,
        ),
        _ => return Err(ItemError::Type { name: name.to_owned() }),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        text: String,
        number: u64,
        maybe: Option<String>,
        list: Vec<i64>,
    }

    fn thing() -> Thing {
        Thing { text: String::new(), number: u64::MAX, maybe: None, list: vec![-1, 2] }
    }

    #[test]
    fn a_value_survives_the_way_to_dynamodb_and_back() {
        let item = encode("a thing", &thing()).unwrap();
        assert!(!item.contains_key("maybe"), "absent is absent, not null");
        assert_eq!(decode::<Thing>("a thing", &item).unwrap(), thing());
    }

    #[test]
    fn what_is_no_object_is_no_item() {
        assert!(matches!(encode("a list", &[1, 2]), Err(ItemError::Shape { what: "a list", .. })));
    }

    #[test]
    fn a_hand_written_string_set_reads_as_a_list() {
        let item = Item::from([("names".to_owned(), AttributeValue::Ss(vec!["a".to_owned(), "b".to_owned()]))]);
        let read: HashMap<String, Vec<String>> = decode("names", &item).unwrap();
        assert_eq!(read["names"], ["a", "b"]);
    }

    #[test]
    fn nothing_hides_beside_the_known_attributes() {
        let mut item = encode("a thing", &thing()).unwrap();
        item.insert("smuggled".to_owned(), AttributeValue::Bool(true));
        assert!(decode::<Thing>("a thing", &item).is_ok());
        let error = decode_exactly::<Thing>("a thing", &item).unwrap_err();
        assert_eq!(error.to_string(), "a thing holds an unknown attribute `smuggled`");
    }

    #[test]
    fn binary_and_fractions_are_refused_by_name() {
        for odd in [AttributeValue::N("1.5".to_owned()), AttributeValue::Ns(vec!["1".to_owned()])] {
            let item = Item::from([("odd".to_owned(), odd)]);
            let error = decode::<HashMap<String, Value>>("odd", &item).unwrap_err();
            assert!(error.to_string().starts_with("attribute `odd`"), "{error}");
        }
    }
}

//! CloudFormation's YAML as JSON: the short forms of intrinsic functions are read as their long ones, `!Sub x` as
//! `{"Fn::Sub": "x"}`.
//!
//! The one reader of templates: what is generated and what is checked here, and what the lab deploys. Resolves nothing, and
//! knows no function but `Ref`, whose long form has no `Fn::`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Tagged;

/// A text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotYaml(String);

/// A template's text as JSON.
///
/// # Errors
/// When it is no YAML.
pub fn read(text: &str) -> Result<Value, NotYaml> {
    let Node(value) = serde_saphyr::from_str(text).map_err(|error| NotYaml(error.to_string()))?;
    Ok(value)
}

/// A YAML node with its tag folded in.
struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tagged(Plain(value), tag) = Tagged::<Plain>::deserialize(deserializer)?;
        let function = match tag.as_deref().and_then(|tag| tag.strip_prefix('!')) {
            None | Some("") => return Ok(Self(value)),
            Some("Ref") => "Ref".to_owned(),
            Some(name) => format!("Fn::{name}"),
        };
        Ok(Self(Value::Object(Map::from_iter([(function, value)]))))
    }
}

/// A YAML node without its tag.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, given: bool) -> Result<Value, E> {
        Ok(given.into())
    }

    fn visit_i64<E>(self, given: i64) -> Result<Value, E> {
        Ok(given.into())
    }

    fn visit_u64<E>(self, given: u64) -> Result<Value, E> {
        Ok(given.into())
    }

    fn visit_f64<E>(self, given: f64) -> Result<Value, E> {
        Ok(given.into())
    }

    fn visit_str<E>(self, given: &str) -> Result<Value, E> {
        Ok(given.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Node(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Node(item))) = entries.next_entry::<String, Node>()? {
            map.insert(key, item);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_short_form_is_read_as_its_long_one_wherever_it_stands() {
        let text =
            "A: !Ref B\nList: [!GetAtt C.Arn, !If [D, !Sub '${E}', 1]]\nPlain: { Text: x, Is: true, Days: 365 }\n";
        assert_eq!(
            read(text).unwrap(),
            json!({
                "A": { "Ref": "B" },
                "List": [{ "Fn::GetAtt": "C.Arn" }, { "Fn::If": ["D", { "Fn::Sub": "${E}" }, 1] }],
                "Plain": { "Text": "x", "Is": true, "Days": 365 },
            })
        );
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_a_reason() {
        assert!(!read("A: [").unwrap_err().to_string().is_empty());
    }
}

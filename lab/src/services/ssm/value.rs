//! Values inside a running document: types, `{{ references }}` and selectors. Pure: it asks nothing of AWS.

use serde_json::{Map, Value};

/// A data type of a parameter, variable or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Integer,
    Boolean,
    StringList,
    StringMap,
    MapList,
}

impl Type {
    /// The type that a document names; `AWS::…` types are strings with a meaning, `List<AWS::…>` lists of them.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "String" => Self::String,
            "Integer" => Self::Integer,
            "Boolean" => Self::Boolean,
            "StringList" => Self::StringList,
            "StringMap" => Self::StringMap,
            "MapList" => Self::MapList,
            _ if name.starts_with("AWS::") => Self::String,
            _ if name.starts_with("List<AWS::") && name.ends_with('>') => Self::StringList,
            _ => return None,
        })
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Integer => "Integer",
            Self::Boolean => "Boolean",
            Self::StringList => "StringList",
            Self::StringMap => "StringMap",
            Self::MapList => "MapList",
        }
    }

    /// `value` as this type, by the conversions that AWS documents: scalars to text and one-element lists,
    /// text to numbers and booleans, a list of one to its element. Maps are never made from anything else.
    pub(crate) fn convert(self, value: Value) -> Option<Value> {
        match (self, value) {
            (Self::StringMap, map @ Value::Object(_)) => Some(map),
            (Self::MapList, Value::Array(items)) => items.iter().all(Value::is_object).then_some(Value::Array(items)),
            (Self::StringMap | Self::MapList, _) => None,
            (Self::StringList, Value::Array(items)) => {
                items.iter().map(|item| scalar_text(item).map(Value::String)).collect::<Option<_>>().map(Value::Array)
            }
            (Self::StringList, scalar) => scalar_text(&scalar).map(|text| Value::Array(vec![Value::String(text)])),
            (scalar, Value::Array(mut items)) if items.len() == 1 => scalar.convert(items.remove(0)),
            (Self::String, value) => scalar_text(&value).map(Value::String),
            (Self::Integer, Value::Number(number)) => {
                (number.is_i64() || number.is_u64()).then_some(Value::Number(number))
            }
            (Self::Integer, Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
            (Self::Boolean, Value::Bool(flag)) => Some(Value::Bool(flag)),
            (Self::Boolean, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value inside a text: scalars as they are, lists and maps as JSON.
pub(crate) fn text(value: &Value) -> String {
    scalar_text(value).unwrap_or_else(|| value.to_string())
}

/// A value as the API's lists of strings write it.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        other => vec![text(other)],
    }
}

/// What stands between `{{` and `}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Parameter(String),
    Output { step: String, output: String },
    Variable(String),
    Global(String),
    Automation(String),
}

impl Reference {
    /// `None` when it does not look like a reference: then the braces are ordinary text.
    fn parse(inside: &str) -> Option<Self> {
        let inside = inside.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if inside.is_empty() || !inside.chars().all(plain) {
            return None;
        }
        Some(match inside.split_once(':') {
            Some(("variable", name)) => Self::Variable(name.to_owned()),
            Some(("global", name)) => Self::Global(name.to_owned()),
            Some(("automation", name)) => Self::Automation(name.to_owned()),
            Some(_) => Self::Parameter(inside.to_owned()),
            None => match inside.split_once('.') {
                Some((step, output)) => Self::Output { step: step.to_owned(), output: output.to_owned() },
                None => Self::Parameter(inside.to_owned()),
            },
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parameter(name) => f.write_str(name),
            Self::Output { step, output } => write!(f, "{step}.{output}"),
            Self::Variable(name) => write!(f, "variable:{name}"),
            Self::Global(name) => write!(f, "global:{name}"),
            Self::Automation(name) => write!(f, "automation:{name}"),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Reference(Reference),
}

fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(start) = text.find("{{") {
        let Some(length) = text[start + 2..].find("}}") else { break };
        let (inside, end) = (&text[start + 2..start + 2 + length], start + 4 + length);
        match Reference::parse(inside) {
            Some(reference) => {
                if start > 0 {
                    pieces.push(Piece::Text(&text[..start]));
                }
                pieces.push(Piece::Reference(reference));
                text = &text[end..];
            }
            None => {
                pieces.push(Piece::Text(&text[..start + 2]));
                text = &text[start + 2..];
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// Every reference inside a value, at any depth.
pub(crate) fn references(value: &Value) -> Vec<Reference> {
    match value {
        Value::String(text) => pieces(text)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Reference(reference) => Some(reference),
                Piece::Text(_) => None,
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(map) => map.values().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// `value` with every reference replaced. A text that is one reference and nothing else becomes the referenced value
/// with its type; inside a longer text it becomes text. The error is the first reference without a value.
pub(crate) fn resolve(value: &Value, lookup: &dyn Fn(&Reference) -> Option<Value>) -> Result<Value, Reference> {
    Ok(match value {
        Value::String(template) => {
            let mut pieces = pieces(template);
            if let [Piece::Reference(_)] = pieces.as_slice()
                && let Some(Piece::Reference(reference)) = pieces.pop()
            {
                return lookup(&reference).ok_or(reference);
            }
            let mut out = String::with_capacity(template.len());
            for piece in pieces {
                match piece {
                    Piece::Text(plain) => out.push_str(plain),
                    Piece::Reference(reference) => out.push_str(&text(&lookup(&reference).ok_or(reference)?)),
                }
            }
            Value::String(out)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| resolve(item, lookup)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let resolved = map.iter().map(|(key, item)| Ok((key.clone(), resolve(item, lookup)?)));
            Value::Object(resolved.collect::<Result<Map<_, _>, Reference>>()?)
        }
        other => other.clone(),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    Index(usize),
    All,
}

/// The JSONPath subset of selectors: `$`, `.Key`, `['Key']`, `[0]` and `[*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Part>);

impl Selector {
    /// Parse, or say what is wrong.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let wrong = || format!("`{path}` is not a selector of the form `$.Key[0].Key[*].Key`");
        let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let key = &after[..end];
                if key.is_empty() || key.contains([' ', ']', '*', '(']) {
                    return Err(wrong());
                }
                parts.push(Part::Key(key.to_owned()));
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix('[') {
                let (inside, behind) = after.split_once(']').ok_or_else(wrong)?;
                let quoted = ['\'', '"'].iter().find_map(|q| inside.strip_prefix(*q).and_then(|i| i.strip_suffix(*q)));
                parts.push(match (inside, quoted) {
                    (_, Some(key)) if !key.is_empty() => Part::Key(key.to_owned()),
                    ("*", _) => Part::All,
                    (digits, _) => Part::Index(digits.parse().map_err(|_| wrong())?),
                });
                rest = behind;
            } else {
                return Err(wrong());
            }
        }
        Ok(Self(parts))
    }

    /// The first key, when the path starts with one.
    pub(crate) fn head(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// What it selects. A path with `[*]` selects a list, perhaps an empty one; any other a value, or nothing.
    pub(crate) fn select(&self, root: &Value) -> Option<Value> {
        let mut found = vec![root];
        for part in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| match part {
                    Part::Key(key) => value.get(key).into_iter().collect(),
                    Part::Index(index) => value.get(*index).into_iter().collect(),
                    Part::All => value.as_array().map(|items| items.iter().collect::<Vec<_>>()).unwrap_or_default(),
                })
                .filter(|value| !value.is_null())
                .collect();
        }
        if self.0.contains(&Part::All) {
            return Some(Value::Array(found.into_iter().cloned().collect()));
        }
        found.first().map(|value| (*value).clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lookup(reference: &Reference) -> Option<Value> {
        match reference.to_string().as_str() {
            "Name" => Some(json!("bucket")),
            "Read.State" => Some(json!({"Block": true})),
            "variable:Count" => Some(json!(3)),
            _ => None,
        }
    }

    #[test]
    fn a_whole_reference_keeps_its_type_and_an_embedded_one_becomes_text() {
        let resolved = resolve(
            &json!({"a": "{{ Read.State }}", "b": ["{{variable:Count}}"], "c": "x-{{ Name }}-{{ Read.State }}"}),
            &lookup,
        );
        assert_eq!(resolved, Ok(json!({"a": {"Block": true}, "b": [3], "c": "x-bucket-{\"Block\":true}"})));
    }

    #[test]
    fn a_reference_without_a_value_is_named_and_other_braces_are_text() {
        assert_eq!(resolve(&json!("a {{ Gone.Value }}"), &lookup).unwrap_err().to_string(), "Gone.Value");
        assert_eq!(
            resolve(&json!("{{ not a reference }} {{ Name }} {{"), &lookup),
            Ok(json!("{{ not a reference }} bucket {{"))
        );
    }

    #[test]
    fn a_resolved_value_is_not_resolved_again() {
        let hostile = |_: &Reference| Some(json!("{{ Name }}"));
        assert_eq!(resolve(&json!("{{ X }}!"), &hostile), Ok(json!("{{ Name }}!")));
    }

    #[test]
    fn selectors_take_keys_indexes_and_wildcards() {
        let answer = json!({"A": [{"B": [{"C": 1}]}, {"B": [{"C": 2}, {"D": 0}]}], "k.1": {"x": null}});
        let select = |path: &str| Selector::parse(path).unwrap().select(&answer);
        assert_eq!(select("$.A[1].B[0].C"), Some(json!(2)));
        assert_eq!(select("$.A[*].B[*].C"), Some(json!([1, 2])));
        assert_eq!(select("$.A[7].B"), None);
        assert_eq!(select("$['k.1'].x"), None);
        assert_eq!(select("$.Gone[*]"), Some(json!([])));
        assert_eq!(select("$"), Some(answer.clone()));
        for wrong in ["A.B", "$.", "$.A[", "$.A[x]", "$..A", "$.A[?(@.B)]", "$.length()"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_convert_as_documented_and_nothing_else() {
        for (ty, from, to) in [
            (Type::String, json!(5), Some(json!("5"))),
            (Type::String, json!(["a"]), Some(json!("a"))),
            (Type::String, json!(["a", "b"]), None),
            (Type::String, json!({"a": 1}), None),
            (Type::Integer, json!("12"), Some(json!(12))),
            (Type::Integer, json!("x"), None),
            (Type::Boolean, json!("False"), Some(json!(false))),
            (Type::Boolean, json!(1), None),
            (Type::StringList, json!(true), Some(json!(["true"]))),
            (Type::StringList, json!([{"a": 1}]), None),
            (Type::StringMap, json!({"a": {"b": 1}}), Some(json!({"a": {"b": 1}}))),
            (Type::StringMap, json!("{}"), None),
            (Type::MapList, json!([]), Some(json!([]))),
            (Type::MapList, json!(["a"]), None),
        ] {
            assert_eq!(ty.convert(from.clone()), to, "{ty:?} of {from}");
        }
    }
}

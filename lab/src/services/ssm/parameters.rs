//! Parameters of a document: what it declares, and what a caller gives. Pure.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::value::{self, Type};

/// What a document says of a parameter.
#[derive(Debug, Clone)]
pub(crate) struct ParameterSpec {
    pub(crate) type_name: String,
    pub(crate) ty: Type,
    pub(crate) description: String,
    pub(crate) default: Option<Value>,
    allowed_values: Vec<Value>,
    allowed_pattern: Option<Regex>,
    items: Bounds,
    chars: Bounds,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    min: usize,
    max: usize,
}

impl Bounds {
    const fn hold(self, length: usize) -> bool {
        self.min <= length && length <= self.max
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    r#type: String,
    #[serde(default)]
    description: String,
    #[serde(default, rename = "displayType")]
    _display_type: Option<String>,
    default: Option<Value>,
    #[serde(default)]
    allowed_values: Vec<Value>,
    allowed_pattern: Option<String>,
    #[serde(default)]
    min_items: usize,
    max_items: Option<usize>,
    #[serde(default)]
    min_chars: usize,
    max_chars: Option<usize>,
}

impl ParameterSpec {
    /// Parse a declaration.
    pub(crate) fn parse(spec: Value) -> Result<Self, String> {
        let raw: Raw = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        let ty = Type::parse(&raw.r#type).ok_or_else(|| format!("`{}` is no type", raw.r#type))?;
        let allowed_pattern = raw
            .allowed_pattern
            .map(|pattern| {
                Regex::new(&pattern).map_err(|_| format!("`{pattern}` is no pattern that the lab can evaluate"))
            })
            .transpose()?;
        let mut parsed = Self {
            type_name: raw.r#type,
            ty,
            description: raw.description,
            default: None,
            allowed_values: raw.allowed_values,
            allowed_pattern,
            items: Bounds { min: raw.min_items, max: raw.max_items.unwrap_or(usize::MAX) },
            chars: Bounds { min: raw.min_chars, max: raw.max_chars.unwrap_or(usize::MAX) },
        };
        // A default may be empty where a given value may not: it means "not given". All else must hold for it.
        parsed.default = match raw.default {
            Some(Value::String(text)) if text.is_empty() => Some(Value::String(text)),
            Some(given) => {
                let converted =
                    ty.convert(given.clone()).ok_or_else(|| format!("the default {given} is no {}", ty.as_str()))?;
                parsed.check(&converted).map_err(|e| format!("the default {given} {e}"))?;
                Some(converted)
            }
            None => None,
        };
        Ok(parsed)
    }

    /// A caller's list of strings as a value of the parameter's type.
    fn accept(&self, given: &[String]) -> Result<Value, String> {
        let wrong_type = || format!("is no {}", self.type_name);
        let json = |text: &String| serde_json::from_str::<Value>(text).ok();
        let accepted = match (self.ty, given) {
            (Type::StringList, items) => Value::from(items.to_vec()),
            (Type::StringMap, [one]) => json(one).ok_or_else(wrong_type)?,
            (Type::MapList, [one]) if json(one).is_some_and(|v| v.is_array()) => json(one).ok_or_else(wrong_type)?,
            (Type::MapList, items) => items.iter().map(json).collect::<Option<_>>().ok_or_else(wrong_type)?,
            (_, [one]) => Value::String(one.clone()),
            (_, items) => return Err(format!("takes one value, not {}", items.len())),
        };
        let accepted = self.ty.convert(accepted).ok_or_else(wrong_type)?;
        self.check(&accepted)?;
        Ok(accepted)
    }

    fn check(&self, accepted: &Value) -> Result<(), String> {
        if let Value::Array(items) = accepted
            && !self.items.hold(items.len())
        {
            return Err(format!("has {} items, which is out of bounds", items.len()));
        }
        let each: Vec<&Value> = accepted.as_array().map_or_else(|| vec![accepted], |items| items.iter().collect());
        for one in each {
            let text = value::text(one);
            if !self.allowed_values.is_empty()
                && !self.allowed_values.iter().any(|allowed| value::text(allowed) == text)
            {
                let allowed: Vec<String> = self.allowed_values.iter().map(value::text).collect();
                return Err(format!("is none of the allowed values: {}", allowed.join(", ")));
            }
            if self.allowed_pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
                return Err(format!(
                    "does not match the allowed pattern `{}`",
                    self.allowed_pattern.as_ref().map_or("", Regex::as_str)
                ));
            }
            if one.is_string() && !self.chars.hold(text.chars().count()) {
                return Err(format!("has {} characters, which is out of bounds", text.chars().count()));
            }
            if self.type_name == "AWS::IAM::Role::Arn" && !is_role_arn(&text) {
                return Err("is no ARN of an IAM role".to_owned());
            }
        }
        Ok(())
    }
}

fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    matches!(parts.as_slice(), ["arn", _, "iam", "", account, resource]
        if account.len() == 12 && account.chars().all(|c| c.is_ascii_digit()) && resource.starts_with("role/"))
}

/// The typed values of an execution's parameters.
pub(crate) type Values = BTreeMap<String, Value>;

/// Check what a caller gives against what a document declares, and fill in the defaults.
/// The error is AWS's `InvalidAutomationExecutionParametersException` message; it names a parameter, never its value.
pub(crate) fn accept(
    declared: &[(String, ParameterSpec)],
    given: &BTreeMap<String, Vec<String>>,
) -> Result<Values, String> {
    let unknown: Vec<&str> =
        given.keys().filter(|name| !declared.iter().any(|(known, _)| known == *name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("Parameters are not declared in the document: [{}]", unknown.join(", ")));
    }
    let missing: Vec<&str> = declared
        .iter()
        .filter(|(name, spec)| spec.default.is_none() && !given.contains_key(name))
        .map(|(name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(format!("Parameters are required by the document and missing: [{}]", missing.join(", ")));
    }
    declared
        .iter()
        .map(|(name, spec)| {
            let value = match (given.get(name), &spec.default) {
                (Some(given), Some(default)) if *given == value::texts(default) => default.clone(),
                (Some(given), _) => spec.accept(given).map_err(|e| format!("Parameter {name} {e}"))?,
                (None, default) => default.clone().unwrap_or_default(),
            };
            Ok((name.clone(), value))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(specs: Value) -> Vec<(String, ParameterSpec)> {
        specs
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, spec)| (name.clone(), ParameterSpec::parse(spec.clone()).unwrap()))
            .collect()
    }

    fn try_one(spec: Value, given: &[&str]) -> Result<Value, String> {
        let given = BTreeMap::from([("P".to_owned(), given.iter().map(|text| (*text).to_owned()).collect())]);
        accept(&declared(json!({"P": spec})), &given).map(|values| values["P"].clone())
    }

    #[test]
    fn unknown_and_missing_parameters_are_named() {
        let specs = declared(json!({"A": {"type": "String"}, "B": {"type": "String", "default": ""}}));
        let given = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), vec!["x".to_owned()])).collect();
        assert!(accept(&specs, &given(&["A", "C"])).unwrap_err().contains("[C]"));
        assert!(accept(&specs, &given(&["B"])).unwrap_err().contains("[A]"));
        assert_eq!(accept(&specs, &given(&["A"])).unwrap()["B"], json!(""));
    }

    #[test]
    fn values_take_the_declared_type_and_keep_its_bounds() {
        assert_eq!(try_one(json!({"type": "Integer"}), &["5"]), Ok(json!(5)));
        assert_eq!(try_one(json!({"type": "Boolean"}), &["true"]), Ok(json!(true)));
        assert_eq!(try_one(json!({"type": "StringList"}), &["a", "b"]), Ok(json!(["a", "b"])));
        assert_eq!(try_one(json!({"type": "StringMap"}), &["{\"a\":{\"b\":1}}"]), Ok(json!({"a": {"b": 1}})));
        assert_eq!(try_one(json!({"type": "MapList"}), &["{\"a\":1}", "{}"]), Ok(json!([{"a": 1}, {}])));
        assert_eq!(try_one(json!({"type": "MapList"}), &["[{\"a\":1}]"]), Ok(json!([{"a": 1}])));
        for (spec, given, reason) in [
            (json!({"type": "Integer"}), vec!["five"], "is no Integer"),
            (json!({"type": "String"}), vec!["a", "b"], "one value"),
            (
                json!({"type": "String", "allowedValues": ["DryRun", "Apply"]}),
                vec!["Break"],
                "none of the allowed values: DryRun, Apply",
            ),
            (json!({"type": "String", "allowedPattern": "^[a-z]+$"}), vec!["a1"], "allowed pattern"),
            (json!({"type": "String", "minChars": 1}), vec![""], "characters"),
            (json!({"type": "StringList", "maxItems": 1}), vec!["a", "b"], "items"),
            (json!({"type": "AWS::IAM::Role::Arn"}), vec!["role/x"], "IAM role"),
            (json!({"type": "StringMap"}), vec!["text"], "is no StringMap"),
        ] {
            let error = try_one(spec, &given).unwrap_err();
            assert!(error.contains(reason), "`{error}` should say `{reason}`");
        }
        assert!(
            try_one(json!({"type": "AWS::IAM::Role::Arn"}), &["arn:aws-cn:iam::111122223333:role/path/Name"]).is_ok()
        );
    }

    #[test]
    fn a_wrong_default_is_refused_when_the_document_is_made() {
        assert!(
            ParameterSpec::parse(json!({"type": "Integer", "default": "x"})).unwrap_err().contains("is no Integer")
        );
        assert!(
            ParameterSpec::parse(json!({"type": "String", "default": "x", "allowedValues": ["y"]}))
                .unwrap_err()
                .contains("allowed values")
        );
        assert!(
            ParameterSpec::parse(json!({"type": "String", "allowedPattern": "("})).unwrap_err().contains("no pattern")
        );
    }
}

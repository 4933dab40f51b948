//! The conditions of `aws:branch` and `aws:loop`. Pure.

use serde_json::{Map, Value};

use super::value;

type Test = fn(&Value, &Value) -> Option<bool>;

/// Operators that compare `Variable` with their own value. `None`: the operand has the wrong type.
const OPERATORS: &[(&str, Test)] = &[
    ("StringEquals", |a, b| on_text(a, b, |a, b| a == b)),
    ("EqualsIgnoreCase", |a, b| on_text(a, b, |a, b| a.eq_ignore_ascii_case(b))),
    ("StartsWith", |a, b| on_text(a, b, |a, b| a.starts_with(b))),
    ("EndsWith", |a, b| on_text(a, b, |a, b| a.ends_with(b))),
    ("Contains", |a, b| on_text(a, b, |a, b| a.contains(b))),
    ("NumericEquals", |a, b| on_numbers(a, b, |a, b| a == b)),
    ("NumericGreater", |a, b| on_numbers(a, b, |a, b| a > b)),
    ("NumericLesser", |a, b| on_numbers(a, b, |a, b| a < b)),
    ("NumericGreaterOrEquals", |a, b| on_numbers(a, b, |a, b| a >= b)),
    ("NumericLesserOrEquals", |a, b| on_numbers(a, b, |a, b| a <= b)),
    ("BooleanEquals", |a, b| Some(boolean(a)? == boolean(b)?)),
];

fn on_text(a: &Value, b: &Value, test: impl Fn(&str, &str) -> bool) -> Option<bool> {
    Some(test(&value::text(a), &value::text(b)))
}

fn on_numbers(a: &Value, b: &Value, test: impl Fn(f64, f64) -> bool) -> Option<bool> {
    let number = |v: &Value| v.as_f64().or_else(|| v.as_str()?.trim().parse().ok());
    Some(test(number(a)?, number(b)?))
}

fn boolean(v: &Value) -> Option<bool> {
    match v {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

enum Form<'a> {
    And(&'a [Value]),
    Or(&'a [Value]),
    Not(&'a Value),
    Compare { variable: &'a Value, operator: &'static str, test: Test, operand: &'a Value },
}

/// A condition's form; `NextStep` is not part of it.
fn form(condition: &Value) -> Result<Form<'_>, String> {
    let map = condition.as_object().ok_or_else(|| format!("a condition is a map, not {condition}"))?;
    let fields: Map<String, Value> =
        map.iter().filter(|(key, _)| *key != "NextStep").map(|(k, v)| (k.clone(), v.clone())).collect();
    let list = |name: &str| {
        let items = map.get(name)?.as_array()?;
        (fields.len() == 1 && !items.is_empty()).then_some(items.as_slice())
    };
    if let Some(items) = list("And") {
        return Ok(Form::And(items));
    }
    if let Some(items) = list("Or") {
        return Ok(Form::Or(items));
    }
    if let Some(inner) = map.get("Not").filter(|_| fields.len() == 1) {
        return Ok(Form::Not(inner));
    }
    if let (Some(variable), 2) = (map.get("Variable"), fields.len()) {
        for (operator, test) in OPERATORS {
            if let Some(operand) = map.get(*operator) {
                return Ok(Form::Compare { variable, operator, test: *test, operand });
            }
        }
    }
    let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
    Err(format!(
        "a condition has `Variable` and one operator, or one of `And`, `Or`, `Not`; this one has: {}",
        keys.join(", ")
    ))
}

/// Whether a condition is well formed, before its references are known.
pub(crate) fn check(condition: &Value) -> Result<(), String> {
    match form(condition)? {
        Form::And(items) | Form::Or(items) => items.iter().try_for_each(check),
        Form::Not(inner) => check(inner),
        Form::Compare { .. } => Ok(()),
    }
}

/// Whether a resolved condition holds.
pub(crate) fn holds(condition: &Value) -> Result<bool, String> {
    match form(condition)? {
        Form::And(items) => items.iter().map(holds).try_fold(true, |all, one| Ok(all & one?)),
        Form::Or(items) => items.iter().map(holds).try_fold(false, |any, one| Ok(any | one?)),
        Form::Not(inner) => holds(inner).map(|held| !held),
        Form::Compare { variable, operator, test, operand } => {
            test(variable, operand).ok_or_else(|| format!("{operator} cannot compare {variable} with {operand}"))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operator_answers_both_ways() {
        for (operator, variable, yes, no) in [
            ("StringEquals", json!("abc"), json!("abc"), json!("ABC")),
            ("EqualsIgnoreCase", json!("abc"), json!("ABC"), json!("abd")),
            ("StartsWith", json!("abc"), json!("ab"), json!("bc")),
            ("EndsWith", json!("abc"), json!("bc"), json!("ab")),
            ("Contains", json!("abc"), json!("b"), json!("x")),
            ("NumericEquals", json!(3), json!("3"), json!(4)),
            ("NumericGreater", json!("3"), json!(2), json!(3)),
            ("NumericLesser", json!(3), json!(4), json!(3)),
            ("NumericGreaterOrEquals", json!(3), json!(3), json!(4)),
            ("NumericLesserOrEquals", json!(3), json!(3), json!(2)),
            ("BooleanEquals", json!("true"), json!(true), json!(false)),
        ] {
            let condition = |operand: &Value| json!({"NextStep": "x", "Variable": variable, operator: operand});
            assert_eq!(holds(&condition(&yes)), Ok(true), "{operator}");
            assert_eq!(holds(&condition(&no)), Ok(false), "{operator}");
        }
    }

    #[test]
    fn and_or_and_not_nest() {
        let is = |text: &str| json!({"Variable": "a", "StringEquals": text});
        assert_eq!(holds(&json!({"And": [is("a"), {"Not": is("b")}, {"Or": [is("b"), is("a")]}]})), Ok(true));
        assert_eq!(holds(&json!({"Or": [is("b"), {"And": [is("a"), is("b")]}]})), Ok(false));
    }

    #[test]
    fn a_malformed_or_incomparable_condition_is_an_error_not_false() {
        assert!(check(&json!({"Variable": "a"})).is_err());
        assert!(check(&json!({"Variable": "a", "StringEquals": "a", "Contains": "a"})).is_err());
        assert!(check(&json!({"And": []})).is_err());
        assert!(check(&json!({"Not": {"StringLike": "a"}})).is_err());
        assert!(
            holds(&json!({"Variable": "many", "NumericEquals": 1}))
                .unwrap_err()
                .contains("NumericEquals cannot compare")
        );
    }
}

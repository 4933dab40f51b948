//! EventBridge event patterns.
//!
//! Pure: does a pattern match an event. A pattern that AWS would refuse matches nothing.

use std::net::IpAddr;

use serde_json::{Map, Number, Value};

/// Whether `pattern` matches `event`.
#[must_use]
pub fn matches(pattern: &Value, event: &Value) -> bool {
    match pattern {
        Value::Object(fields) if !fields.is_empty() => object(fields, Some(event)),
        _ => false,
    }
}

fn object(fields: &Map<String, Value>, event: Option<&Value>) -> bool {
    // An array of objects matches when one of its elements matches as a whole.
    if let Some(Value::Array(elements)) = event {
        return elements.iter().any(|element| object(fields, Some(element)));
    }
    fields.iter().all(|(name, wanted)| match (name.as_str(), wanted) {
        ("$or", Value::Array(alternatives)) => {
            alternatives.iter().any(|one| one.as_object().is_some_and(|fields| object(fields, event)))
        }
        (_, Value::Object(inner)) => object(inner, event.and_then(|event| event.get(name))),
        (_, Value::Array(matchers)) => {
            let value = event.and_then(|event| event.get(name));
            matchers.iter().any(|matcher| leaf(matcher, value))
        }
        _ => false,
    })
}

/// One matcher against a field; an array in the event matches when one of its elements does.
fn leaf(matcher: &Value, value: Option<&Value>) -> bool {
    if let Some(exists) = operand(matcher, "exists") {
        let leaf = value.is_some_and(|value| !value.is_object());
        return exists.as_bool() == Some(leaf);
    }
    match value {
        None => false,
        Some(Value::Array(elements)) => elements.iter().any(|element| scalar(matcher, element)),
        Some(value) => scalar(matcher, value),
    }
}

fn operand<'a>(matcher: &'a Value, name: &str) -> Option<&'a Value> {
    matcher.as_object().filter(|fields| fields.len() == 1)?.get(name)
}

fn scalar(matcher: &Value, value: &Value) -> bool {
    let Value::Object(fields) = matcher else { return equal(matcher, value) };
    let (1, Some((name, operand))) = (fields.len(), fields.iter().next()) else { return false };
    match name.as_str() {
        "anything-but" => anything_but(operand, value),
        "numeric" => value.as_number().is_some_and(|number| numeric(operand, number)),
        "cidr" => text_pair(operand, value).is_some_and(|(range, address)| cidr(range, address)),
        name => text_matcher(name, operand, value),
    }
}

/// The matchers that also stand inside `anything-but`.
fn text_matcher(name: &str, operand: &Value, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let folded = text.to_lowercase();
    match (name, operand) {
        ("prefix", Value::String(start)) => text.starts_with(start.as_str()),
        ("suffix", Value::String(end)) => text.ends_with(end.as_str()),
        ("prefix", Value::Object(_)) => ignoring_case(operand).is_some_and(|start| folded.starts_with(&start)),
        ("suffix", Value::Object(_)) => ignoring_case(operand).is_some_and(|end| folded.ends_with(&end)),
        ("equals-ignore-case", Value::String(other)) => folded == other.to_lowercase(),
        ("wildcard", Value::String(pattern)) => wildcard(pattern, text),
        _ => false,
    }
}

fn ignoring_case(operand: &Value) -> Option<String> {
    Some(self::operand(operand, "equals-ignore-case")?.as_str()?.to_lowercase())
}

fn text_pair<'a>(left: &'a Value, right: &'a Value) -> Option<(&'a str, &'a str)> {
    left.as_str().zip(right.as_str())
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(_) | Value::Object(_), _) => false,
        _ => left == right,
    }
}

fn anything_but(operand: &Value, value: &Value) -> bool {
    match operand {
        Value::Object(fields) => {
            let (1, Some((name, inner))) = (fields.len(), fields.iter().next()) else { return false };
            !alternatives(inner).iter().any(|one| text_matcher(name, one, value))
        }
        _ => !alternatives(operand).iter().any(|one| equal(one, value)),
    }
}

fn alternatives(operand: &Value) -> &[Value] {
    match operand {
        Value::Array(several) => several,
        one => std::slice::from_ref(one),
    }
}

/// `[">=", 1, "<", 5]`: every comparison must hold.
fn numeric(operand: &Value, number: &Number) -> bool {
    let (Some(comparisons), Some(number)) = (operand.as_array(), number.as_f64()) else { return false };
    let (pairs, rest) = comparisons.as_chunks::<2>();
    !pairs.is_empty()
        && rest.is_empty()
        && pairs.iter().all(|[operator, limit]| match (operator.as_str(), limit.as_f64()) {
            (Some("="), Some(limit)) => number == limit,
            (Some("<"), Some(limit)) => number < limit,
            (Some("<="), Some(limit)) => number <= limit,
            (Some(">"), Some(limit)) => number > limit,
            (Some(">="), Some(limit)) => number >= limit,
            _ => false,
        })
}

fn cidr(range: &str, address: &str) -> bool {
    let Some((network, length)) = range.split_once('/') else { return false };
    let (Ok(network), Ok(length), Ok(address)) =
        (network.parse::<IpAddr>(), length.parse::<u32>(), address.parse::<IpAddr>())
    else {
        return false;
    };
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let Some(shift) = u32::checked_sub(width, length) else { return false };
    (network ^ address).checked_shr(shift).unwrap_or(0) == 0
}

/// `*` stands for any run of characters, `\*` and `\\` for themselves.
fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = vec![String::new()];
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => parts.push(String::new()),
            '\\' => match (characters.next(), parts.last_mut()) {
                (Some(escaped @ ('*' | '\\')), Some(part)) => part.push(escaped),
                _ => return false,
            },
            other => {
                if let Some(part) = parts.last_mut() {
                    part.push(other);
                }
            }
        }
    }
    let [first, middle @ .., last] = parts.as_slice() else { return text == parts.concat() };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
        rest = after;
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "version": "0", "id": "1", "detail-type": "Config Rules Compliance Change", "source": "aws.config",
            "account": "111122223333", "region": "eu-central-1", "resources": ["arn:aws:ec2:x:y:instance/i-1", "b"],
            "detail": {
                "state": "running", "count": 5, "ip": "10.0.0.77", "empty": "", "nothing": null, "yes": true,
                "findings": [{ "id": "a", "label": "LOW" }, { "id": "b", "label": "HIGH" }],
            },
        })
    }

    fn detail(pattern: Value) -> bool {
        matches(&json!({ "detail": pattern }), &event())
    }

    #[test]
    fn documented_examples_match_and_their_opposites_do_not() {
        for (pattern, expected) in [
            (json!({ "state": ["running"] }), true),
            (json!({ "state": ["stopped", "running"] }), true),
            (json!({ "state": ["RUNNING"] }), false),
            (json!({ "state": [{ "equals-ignore-case": "RUNNING" }] }), true),
            (json!({ "state": [{ "prefix": "run" }] }), true),
            (json!({ "state": [{ "prefix": { "equals-ignore-case": "RUN" } }] }), true),
            (json!({ "state": [{ "suffix": "ing" }] }), true),
            (json!({ "state": [{ "suffix": { "equals-ignore-case": "ING" } }] }), true),
            (json!({ "state": [{ "suffix": "ed" }] }), false),
            (json!({ "state": [{ "anything-but": "running" }] }), false),
            (json!({ "state": [{ "anything-but": ["stopped", "overloaded"] }] }), true),
            (json!({ "state": [{ "anything-but": { "prefix": "run" } }] }), false),
            (json!({ "state": [{ "anything-but": { "prefix": ["a", "b"] } }] }), true),
            (json!({ "state": [{ "anything-but": { "equals-ignore-case": "RUNNING" } }] }), false),
            (json!({ "state": [{ "anything-but": { "wildcard": "*nn*" } }] }), false),
            (json!({ "absent": [{ "anything-but": "x" }] }), false),
            (json!({ "count": [5] }), true),
            (json!({ "count": [5.0] }), true),
            (json!({ "count": [{ "anything-but": 5 }] }), false),
            (json!({ "count": [{ "numeric": [">", 0, "<=", 5] }] }), true),
            (json!({ "count": [{ "numeric": ["<", 5] }] }), false),
            (json!({ "count": [{ "numeric": ["=", 5] }] }), true),
            (json!({ "state": [{ "numeric": ["=", 5] }] }), false),
            (json!({ "ip": [{ "cidr": "10.0.0.0/24" }] }), true),
            (json!({ "ip": [{ "cidr": "10.0.1.0/24" }] }), false),
            (json!({ "ip": [{ "cidr": "0.0.0.0/0" }] }), true),
            (json!({ "ip": [{ "cidr": "2001:db8::/32" }] }), false),
            (json!({ "state": [{ "exists": true }] }), true),
            (json!({ "state": [{ "exists": false }] }), false),
            (json!({ "absent": [{ "exists": false }] }), true),
            (json!({ "absent": { "deeper": [{ "exists": false }] } }), true),
            (json!({ "absent": { "deeper": [{ "exists": true }] } }), false),
            (json!({ "empty": [""] }), true),
            (json!({ "nothing": [null] }), true),
            (json!({ "absent": [null] }), false),
            (json!({ "yes": [true] }), true),
            (json!({ "state": [{ "wildcard": "r*n*g" }] }), true),
            (json!({ "state": [{ "wildcard": "*stop*" }] }), false),
            (json!({ "state": "running" }), false),
            (json!({ "$or": [{ "state": ["x"] }, { "count": [5] }] }), true),
            (json!({ "$or": [{ "state": ["x"] }, { "count": [6] }], "yes": [true] }), false),
        ] {
            assert_eq!(detail(pattern.clone()), expected, "{pattern}");
        }
    }

    #[test]
    fn an_array_in_the_event_matches_when_one_element_does() {
        assert!(matches(&json!({ "resources": [{ "prefix": "arn:aws:ec2:" }] }), &event()));
        assert!(!matches(&json!({ "resources": ["c"] }), &event()));
    }

    #[test]
    fn fields_of_an_array_of_objects_must_match_in_the_same_element() {
        assert!(detail(json!({ "findings": { "id": ["b"], "label": ["HIGH"] } })));
        assert!(!detail(json!({ "findings": { "id": ["a"], "label": ["HIGH"] } })));
    }

    #[test]
    fn several_fields_must_all_match() {
        let both = json!({ "source": ["aws.config"], "detail": { "state": ["running"] } });
        assert!(matches(&both, &event()));
        let one = json!({ "source": ["aws.ssm"], "detail": { "state": ["running"] } });
        assert!(!matches(&one, &event()));
    }

    #[test]
    fn an_invalid_pattern_matches_nothing() {
        for pattern in [
            json!({}),
            json!([]),
            json!("x"),
            json!({ "source": "aws.config" }),
            json!({ "source": [{ "unheard-of": 1 }] }),
        ] {
            assert!(!matches(&pattern, &event()), "{pattern}");
        }
    }

    #[test]
    fn an_escaped_star_is_a_star() {
        assert!(wildcard(r"a\*b", "a*b"));
        assert!(!wildcard(r"a\*b", "axb"));
        assert!(!wildcard("a*ba", "aba".get(..2).unwrap_or_default()));
    }

    proptest! {
        #[test]
        fn every_pattern_made_of_an_events_own_values_matches_it(fields in proptest::collection::btree_map("[a-z]{1,6}", "[a-zA-Z0-9 *]{0,8}", 1..5)) {
            let event = json!(fields);
            let pattern: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), json!([value]))).collect();
            prop_assert!(matches(&Value::Object(pattern), &event));
        }

        #[test]
        fn anything_but_is_the_opposite_of_equality(wanted in "[ab]{0,3}", value in "[ab]{0,3}") {
            let event = json!({ "x": value });
            let equal = matches(&json!({ "x": [wanted] }), &event);
            let other = matches(&json!({ "x": [{ "anything-but": wanted }] }), &event);
            prop_assert_ne!(equal, other);
        }

        #[test]
        fn a_wildcard_matches_what_a_regular_search_would(head in "[ab]{0,3}", hole in "[ab]{0,4}", tail in "[ab]{0,3}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{hole}{tail}");
            prop_assert!(wildcard(&pattern, &text));
        }

        #[test]
        fn no_pattern_and_event_make_the_matcher_panic(pattern in any_json(), event in any_json()) {
            let _ = matches(&pattern, &event);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a*/\\\\.0-9]{0,6}".prop_map(Value::from)
        ];
        scalar.prop_recursive(4, 24, 4, |inner| {
            let names = prop_oneof![
                "[ab]",
                Just("numeric".to_owned()),
                Just("cidr".to_owned()),
                Just("$or".to_owned()),
                Just("anything-but".to_owned()),
                Just("exists".to_owned())
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names, inner, 0..4).prop_map(|fields| json!(fields)),
            ]
        })
    }
}

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TWO: &str = "{ \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    { \"Sid\":\"a\" , \"Effect\":\"Allow\"},\n    {\"Sid\": \"b]}\\\"\"}\n  ], \"Id\": \"x\" }";

#[test]
fn a_statement_is_added_and_taken_away_amid_untouched_text() {
    let policy = Policy::parse(TWO).unwrap();
    let more = policy.edited(|_| true, Some(r#"{"Sid":"c"}"#)).unwrap();
    assert_eq!(more, TWO.replace("\\\"\"}\n  ]", "\\\"\"},\n    {\"Sid\":\"c\"}\n  ]"));
    assert_eq!(Policy::parse(&more).unwrap().edited(|statement| statement["Sid"] != "c", None).unwrap(), TWO);
    let less = policy.edited(|statement| statement["Sid"] != "a", None).unwrap();
    assert_eq!(less, TWO.replace("{ \"Sid\":\"a\" , \"Effect\":\"Allow\"},\n    ", ""));
    assert_eq!(policy.edited(|_| false, None), None);
}

#[test]
fn a_single_statement_may_stand_without_a_list_and_a_list_may_be_empty() {
    let one = Policy::parse(r#"{"Statement": {"Sid":"a"} }"#).unwrap();
    assert_eq!(one.edited(|_| true, Some("{}")).unwrap(), r#"{"Statement": [{"Sid":"a"},{}] }"#);
    let none = Policy::parse(r#"{"Statement":[ ]}"#).unwrap();
    assert_eq!(Policy::parse(&none.edited(|_| true, Some("{}")).unwrap()).unwrap().statements().count(), 1);
    assert_eq!(Policy::parse(&Policy::of("{}")).unwrap().statements().count(), 1);
}

#[test]
fn what_is_no_policy_is_refused() {
    for wrong in ["", "[]", "{}", r#"{"Statement":"x"}"#, r#"{"Statement":[],"Statement":[]}"#, r#"{"Statement":["#] {
        assert!(Policy::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_sid_is_not_used_twice() {
    let policy = Policy::parse(r#"{"Statement":[{"Sid":"Mine"},{"Sid":"Mine2"}]}"#).unwrap();
    assert_eq!(policy.free_sid("Mine"), "Mine3");
    assert_eq!(policy.free_sid("Other"), "Other");
}

#[test]
fn public_is_an_allow_for_everyone_that_nothing_pins_down() {
    let statement = |principal: Value, condition: Value| json!({ "Effect": "Allow", "Principal": principal, "Condition": condition });
    let everyone = |condition: Value| is_public(&statement(json!("*"), condition));
    for open in [
        json!({}),
        json!({ "StringEquals": { "aws:SourceAccount": [] } }),
        json!({ "StringEqualsIfExists": { "aws:SourceAccount": "111122223333" } }),
        json!({ "ForAllValues:StringEquals": { "aws:PrincipalOrgID": "o-1" } }),
        json!({ "StringNotEquals": { "aws:SourceAccount": "111122223333" } }),
        json!({ "StringLike": { "aws:SourceArn": "*" } }),
        json!({ "ArnLike": { "aws:SourceArn": "arn:aws:sns:*:*:topic" } }),
        json!({ "ArnLike": { "aws:SourceArn": "arn:aws:s3:::*" } }),
        json!({ "IpAddress": { "aws:SourceIp": ["203.0.113.0/24", "0.0.0.0/0"] } }),
        json!({ "Bool": { "aws:SecureTransport": "true" } }),
        json!({ "StringEquals": { "aws:SourceAccount": "${aws:PrincipalAccount}" } }),
    ] {
        assert!(everyone(open.clone()), "{open}");
    }
    for pinned in [
        json!({ "StringEquals": { "AWS:SourceOwner": "111122223333" } }),
        json!({ "StringEquals": { "aws:PrincipalOrgID": ["o-1"] } }),
        json!({ "ArnLike": { "aws:SourceArn": "arn:aws:sns:*:111122223333:*" } }),
        json!({ "ArnEquals": { "aws:SourceArn": "arn:aws:s3:::bucket-*" } }),
        json!({ "IpAddress": { "aws:SourceIp": "203.0.113.0/24" } }),
        json!({ "Bool": { "aws:SecureTransport": "true" }, "StringEquals": { "aws:SourceVpce": "vpce-1" } }),
    ] {
        assert!(!everyone(pinned.clone()), "{pinned}");
    }
    assert!(is_public(&statement(json!({ "AWS": ["arn:aws:iam::111122223333:root", "*"] }), json!(null))));
    assert!(is_public(&json!({ "Effect": "Allow", "NotPrincipal": { "AWS": "111122223333" } })));
    assert!(!is_public(&statement(json!({ "AWS": "arn:aws:iam::111122223333:root" }), json!({}))));
    assert!(!is_public(&statement(json!({ "Service": "s3.amazonaws.com" }), json!({}))));
    assert!(!is_public(&json!({ "Effect": "Deny", "Principal": "*" })));
}

// ------------------------------------------------------------------------------------------- properties

fn space() -> impl Strategy<Value = String> {
    "[ \n\t]{0,3}"
}

fn any_statement() -> impl Strategy<Value = String> {
    ("[a-z]{1,3}", space(), "[]\\[{}\",a \\\\]{0,6}").prop_map(|(sid, gap, text)| {
        let text = serde_json::to_string(&text).unwrap();
        format!("{{{gap}\"Sid\":{gap}\"{sid}\",\"Statement\":[{text}{gap}]{gap}}}")
    })
}

/// A document in any layout, with its statements.
fn any_document() -> impl Strategy<Value = (String, Vec<String>)> {
    (prop::collection::vec(any_statement(), 1..5), space(), space(), any::<bool>()).prop_map(
        |(statements, one, other, first)| {
            let list = statements.join(&format!("{one},{other}"));
            let id = format!("\"Id\"{one}:{other}\"]}}\"");
            let body = format!("\"Statement\"{one}:{other}[{one}{list}{other}]");
            let members = if first { format!("{body}{one},{id}") } else { format!("{id},{other}{body}") };
            (format!("{one}{{{other}{members}{one}}}{other}"), statements)
        },
    )
}

fn raw(document: &str) -> Vec<String> {
    let policy = Policy::parse(document).unwrap();
    policy.statements.iter().map(|at| document[at.clone()].to_owned()).collect()
}

proptest! {
    #[test]
    fn every_statement_is_found_byte_for_byte((document, statements) in any_document()) {
        prop_assert_eq!(raw(&document), statements);
    }

    #[test]
    fn adding_one_leaves_the_others_byte_for_byte_and_taking_it_away_gives_the_document_back(
        (document, statements) in any_document(), new in any_statement(),
    ) {
        let new = new.replacen("\"Sid\":", "\"Sid\":\"NEW\",\"Old\":", 1);
        let added = Policy::parse(&document).unwrap().edited(|_| true, Some(&new)).unwrap();
        let mut expected = statements;
        expected.push(new);
        prop_assert_eq!(raw(&added), expected);
        let back = Policy::parse(&added).unwrap().edited(|statement| statement["Sid"] != "NEW", None).unwrap();
        prop_assert_eq!(back, document);
    }

    #[test]
    fn taking_some_away_leaves_the_others_byte_for_byte((document, statements) in any_document(), nth in 0..5_usize) {
        let gone: Value = serde_json::from_str(&statements[nth % statements.len()]).unwrap();
        let left: Vec<String> =
            statements.into_iter().filter(|text| serde_json::from_str::<Value>(text).unwrap() != gone).collect();
        match Policy::parse(&document).unwrap().edited(|statement| *statement != gone, None) {
            Some(after) => prop_assert_eq!(raw(&after), left),
            None => prop_assert!(left.is_empty()),
        }
    }
}

//! What is refused, where, and with which advice.

use redress_common::items::policy::PolicyItem;
use redress_common::ledger::sha256_hex;

use super::*;

fn problems(source: &str) -> Vec<SourceProblem> {
    match Policies::load(source) {
        Err(PolicyError::Refused(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_refused_is_shown_where_it_stands() {
    let scope = "(principal, action, resource)";
    for (source, line, column, says) in [
        ("permit everything".to_owned(), 1, 8, "unexpected token"),
        (format!("@id(\"a\")\npermit {scope}\nwhen {{ resource.colour == \"red\" }};"), 3, 8, "colour"),
        (format!("// {{ ; \"\n\n  permit {scope};"), 3, 3, "no `@id`"),
        (format!("@id(\"a;\\\"\") permit {scope};"), 1, 1, "cannot be an `@id`"),
        (format!("@id(\"exemption.a\") permit {scope};"), 1, 1, "cannot be an `@id`"),
        (format!("@id(\"a\") permit {scope};\n@id(\"a\") forbid {scope};"), 2, 1, "another policy"),
        (format!("@id(\"a\") @approver(\"2\") permit {scope};"), 1, 1, "no annotation"),
        (format!("@id(\"a\") @approvers(\"0\") permit {scope};"), 1, 1, "no number of people"),
        (format!("@id(\"a\") @approvers(\"two\") permit {scope};"), 1, 1, "no number of people"),
        (format!("@id(\"a\") @four_eyes(\"yes\") permit {scope};"), 1, 1, "neither yes nor no"),
        (format!("@id(\"a\") @four_eyes(\"true\") forbid {scope};"), 1, 1, "no effect"),
        (
            format!("@id(\"a\")\nforbid {scope}\nwhen {{ resource.severity > 3 && resource.severity == \"HIGH\" }};"),
            0,
            0,
            "",
        ),
        (
            "@id(\"a\") permit (principal, action == Redress::Action::\"Destroy\", resource);".to_owned(),
            1,
            0,
            "Destroy",
        ),
        ("@id(\"a\") permit (principal == ?principal, action, resource);".to_owned(), 0, 0, "slot"),
        ("x".repeat(300_000), 0, 0, "no more than"),
    ] {
        let problems = problems(&source);
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(says), "{says}: {text}");
        if line > 0 {
            assert_eq!(problems[0].line, line, "{text}");
        }
        if column > 0 {
            assert_eq!(problems[0].column, column, "{text}");
        }
    }
}

#[test]
fn a_policy_that_can_never_apply_is_refused() {
    let never = r#"@id("a") forbid (principal, action, resource) when { resource.control == "S3.8" && false };"#;
    assert!(problems(never)[0].message.contains("a"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let source =
        "permit (principal, action, resource);\n@id(\"b\") permit (principal, action, resource) when { context.x };";
    let lines: Vec<usize> = problems(source).iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 2], "{:#?}", problems(source));
}

#[test]
fn no_text_makes_it_panic_and_each_policy_has_its_place() {
    let source = "// a ; comment\n@id(\"a\") permit (principal, action, resource) when { resource.arn == \"a;\\\";//\" };\n\n@id(\"b\")\nforbid (principal, action, resource);";
    assert_eq!(super::super::source::starts(source).len(), 2);
    for text in ["\"", "\"\\", "/", "//", ";;", "\u{1f980}", "@id(\"\u{1f980}\") permit(principal,action,resource)"] {
        drop(Policies::load(text));
    }
}

#[test]
fn the_operators_own_set_is_in_force_when_it_is_the_one_that_was_stored() {
    use redress_common::aws::state_table::PolicySetName::{Custom, Standard};
    let item = PolicyItem {
        version: 3,
        source: ACT_AND_TELL.to_owned(),
        sha256: sha256_hex(ACT_AND_TELL.as_bytes()),
        set_by: "arn:aws:iam::999999999999:user/jo".to_owned(),
        set_at: asked(jo()).now,
        reason: String::new(),
    };
    let first = Policies::in_force(Custom, Some(&item)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &Policies::in_force(Custom, Some(&item)).unwrap()));
    let torn = PolicyItem { source: format!("{ACT_AND_TELL} // more"), ..item.clone() };
    assert!(Policies::in_force(Custom, Some(&torn)).unwrap_err().to_string().contains("SHA-256"));
    assert!(matches!(Policies::in_force(Custom, None), Err(PolicyError::Absent)));
    assert_eq!(
        Policies::in_force(Standard, Some(&item)).unwrap().sha256(),
        Policies::shipped(Standard).unwrap().sha256()
    );
}

const PAGE: &str = include_str!("../../../../docs/policy.md");

#[test]
fn the_examples_of_the_page_are_valid_and_go_on_top_of_a_shipped_set() {
    let standard = source(redress_common::aws::state_table::PolicySetName::Standard).unwrap();
    let examples: Vec<&str> = PAGE.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        Policies::load(&format!("{standard}\n{example}")).unwrap();
    }
}

#[test]
fn the_page_names_every_attribute_of_the_schema() {
    for line in SCHEMA.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some((name, _)) =
            line.split_once(": ").filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '?'))
        {
            let name = name.trim_end_matches('?');
            let named = PAGE.contains(&format!("`{name}")) || PAGE.contains(&format!(".{name}"));
            assert!(["principal", "resource", "context"].contains(&name) || named, "{name}");
        }
    }
}

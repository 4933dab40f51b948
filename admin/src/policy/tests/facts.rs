//! Organisational units, tags, time, and facts that are not known.

use super::*;

fn told(policy: &str, asked: &Asked) -> bool {
    with(policy, asked).disposition == Disposition::Notify
}

/// A `forbid` of acting where this holds.
fn never(condition: &str) -> String {
    format!(r#"@id("never") forbid (principal, action == Redress::Action::"Act", resource) when {{ {condition} }};"#)
}

#[test]
fn defect_08_a_policy_on_an_organisational_unit_holds_for_all_below_it() {
    for unit in ["r-root", "ou-1", "ou-2", "ou-3", "ou-4", "ou-5"] {
        assert!(
            told(&never(&format!(r#"resource in Redress::OrganizationalUnit::"{unit}""#)), &asked(rule())),
            "{unit}"
        );
        let scope = format!(
            r#"@id("scope") forbid (principal, action, resource in Redress::OrganizationalUnit::"{unit}")
               unless {{ action == Redress::Action::"Notify" }};"#
        );
        assert!(told(&scope, &asked(rule())), "{unit}");
    }
    assert!(!told(&never(r#"resource in Redress::OrganizationalUnit::"ou-6""#), &asked(rule())));
    assert!(told(&never(r#"resource in Redress::Account::"111122223333""#), &asked(rule())));
}

#[test]
fn defect_08_a_forbid_on_a_fact_that_is_not_known_does_not_fail_open() {
    let account = Asked { account_facts: None, ..asked(rule()) };
    let resource = Asked { evidence: None, ..asked(rule()) };
    let calendar = Asked { calendar: Calendar::Unreadable, ..asked(rule()) };
    let zone = Asked { time_zone: Some("Mars/Olympus".to_owned()), ..asked(rule()) };
    for (condition, blind, fact) in [
        (r#"resource in Redress::OrganizationalUnit::"ou-6""#, &account, Fact::AccountPlace),
        (r#"resource.inAccount in Redress::OrganizationalUnit::"ou-6""#, &account, Fact::AccountPlace),
        (r#"resource is Redress::Resource in Redress::OrganizationalUnit::"ou-6""#, &account, Fact::AccountPlace),
        (r#"resource.inAccount.name == "other""#, &account, Fact::AccountPlace),
        (r#"resource.inAccount.hasTag("freeze")"#, &account, Fact::AccountTags),
        (r#"resource.hasTag("keep")"#, &resource, Fact::ResourceTags),
        (r#"resource.hasTag("keep") && resource.getTag("keep") == "yes""#, &resource, Fact::ResourceTags),
        (r#"if context.pilot then resource.hasTag("keep") else false"#, &resource, Fact::ResourceTags),
        ("!(resource.owned) == false", &resource, Fact::Ownership),
        (r#"resource has owner && resource.owner == "CloudFormation""#, &resource, Fact::Ownership),
        (r#"resource["owned"]"#, &resource, Fact::Ownership),
        (r#"resource has inAccount.name && resource.inAccount["name"] like "x*""#, &account, Fact::AccountPlace),
        (r#"context has local.hour && context.local.hour == 3"#, &zone, Fact::LocalTime),
        ("resource.dependents == 3", &resource, Fact::Dependents),
        ("resource.threat", &resource, Fact::Threat),
        ("resource has lastUsedDays && resource.lastUsedDays < 7", &resource, Fact::LastUsed),
        (r#"context.changeCalendar == "OPEN""#, &calendar, Fact::Calendar),
        ("context.local.hour == 3", &zone, Fact::LocalTime),
    ] {
        let verdict = with(&never(condition), blind);
        assert_eq!(verdict.disposition, Disposition::Notify, "{condition}");
        assert_eq!(verdict.missing, BTreeSet::from([fact]), "{condition}");
        assert!(verdict.error.unwrap().contains(fact.as_str()), "{condition}");
        let known = with(&never(condition), &asked(rule()));
        assert_eq!((known.disposition, known.error), (Disposition::Act, None), "{condition}");
        // Not knowing something else is no matter.
        let other = if std::ptr::eq(blind, &raw const account) { &resource } else { &account };
        assert_eq!(with(&never(condition), other).disposition, Disposition::Act, "{condition}");
    }
}

#[test]
fn defect_08_no_answer_of_the_guard_is_not_a_no() {
    let without = |question: &str| {
        let evidence = GuardEvidence { unanswered: vec![question.to_owned()], ..GuardEvidence::default() };
        Asked { evidence: Some(evidence), ..asked(rule()) }
    };
    for (question, condition, told_only) in [
        ("tags: AccessDenied", r#"resource.hasTag("keep")"#, true),
        ("tags: AccessDenied", "resource.critical", true),
        ("tags: AccessDenied", "resource.threat", false),
        ("dependents: throttled", "resource.dependents > 5", true),
        ("dependents: throttled", r#"resource.hasTag("keep")"#, false),
        ("last use: S3 does not tell", "resource has lastUsedDays && resource.lastUsedDays < 7", true),
        ("last use: S3 does not tell", "resource.owned", false),
        ("tags and last use of the password: no", "resource.owned", true),
        ("tags and last use of the password: no", "resource has lastUsedDays && resource.lastUsedDays < 7", true),
        ("access keys and their last use: no", "resource.dependents > 5", true),
        ("network interfaces: no answer in time", "resource.dependents > 5", true),
        ("owner: AccessDenied", "resource.ownerVouched", true),
        ("owner: no; tags: no", "resource.dependents > 5", false),
        ("whether the stack is nested in another: no", "resource.owned", false),
        ("lines of the threat list: 1 are malformed", "resource.threat", false),
        ("a question was cut off: tags", "resource.threat", true),
        ("something new", "resource.threat", true),
    ] {
        assert_eq!(told(&never(condition), &without(question)), told_only, "{question} {condition}");
    }
    let garbled = GuardEvidence { last_used: Some("yesterday".to_owned()), ..GuardEvidence::default() };
    let garbled = Asked { evidence: Some(garbled), ..asked(rule()) };
    assert!(told(&never("resource has lastUsedDays && resource.lastUsedDays < 7"), &garbled));
}

#[test]
fn a_policy_that_cannot_apply_does_not_need_its_facts() {
    let blind = Asked { evidence: None, account_facts: None, ..asked(rule()) };
    for condition in [
        r#"context.mode == "Restore" && resource.critical"#,
        r#"resource.critical && context.mode == "Restore""#,
        r#"(resource.owned || resource.critical) && (resource.control == "EC2.1" && resource.threat)"#,
    ] {
        assert_eq!(with(&never(condition), &blind).error, None, "{condition}");
    }
    let unless = r#"@id("n") forbid (principal, action == Redress::Action::"Act", resource)
        unless { resource.critical || principal is Redress::Rule };"#;
    assert_eq!(with(unless, &blind).disposition, Disposition::Act);
    // A permit that is not sure adds nothing to one that is.
    let more =
        r#"@id("more") permit (principal, action == Redress::Action::"Act", resource) when { resource.threat };"#;
    assert_eq!(with(more, &blind).disposition, Disposition::Act);
    // Nor does a `forbid` take what nothing permits.
    let set = r#"@id("ask") permit (principal, action == Redress::Action::"Approve", resource);"#;
    assert_eq!(ask(&format!("{set}{}", never("resource.critical")), &blind).disposition, Disposition::Approve);
}

#[test]
fn a_permit_that_depends_on_what_is_not_known_permits_nothing() {
    let set = r#"
        @id("act") permit (principal, action == Redress::Action::"Act", resource) when { resource.threat };
        @id("ask") permit (principal, action == Redress::Action::"Approve", resource);"#;
    let verdict = ask(set, &Asked { evidence: None, ..asked(rule()) });
    assert_eq!((verdict.disposition, verdict.missing), (Disposition::Notify, BTreeSet::from([Fact::Threat])));
}

#[test]
fn what_the_guard_and_organizations_found_is_what_policies_see() {
    let evidence = GuardEvidence {
        tags: [("team".to_owned(), "web".to_owned())].into(),
        dependent_count: 4,
        last_used: Some("2026-11-10T14:00:00Z".to_owned()),
        threats: vec!["198.51.100.0/24".to_owned()],
        ..GuardEvidence::default()
    };
    let asked = Asked { evidence: Some(evidence), breaker_open: true, ..asked(rule()) };
    for condition in [
        r#"resource.hasTag("team") && resource.getTag("team") == "web""#,
        r#"resource.inAccount.hasTag("env") && resource.inAccount.getTag("env") == "production""#,
        r#"resource.inAccount.name == "shop""#,
        "resource.dependents == 4",
        "resource has lastUsedDays && resource.lastUsedDays == 10",
        "resource.threat",
        "context.breakerOpen",
        "context.findingAgeHours == 2",
        "context.now == 1795186800000",
        r#"context.trigger == "Config""#,
        r#"context.changeCalendar == "NONE""#,
        r#"resource.frameworks.contains("CIS v3.0.0")"#,
    ] {
        assert!(told(&never(condition), &asked), "{condition}");
    }
}

#[test]
fn policies_see_the_local_time_of_the_zone_through_its_changes() {
    for (zone, now, weekday, date, hour, minute) in [
        (None, "2026-11-20T15:59:59Z", "FRI", "2026-11-20", 15, 59),
        (Some("UTC"), "2026-11-20T23:59:59Z", "FRI", "2026-11-20", 23, 59),
        (Some("Europe/Berlin"), "2026-11-20T23:00:00Z", "SAT", "2026-11-21", 0, 0),
        // Clocks go from 02:00 to 03:00 …
        (Some("Europe/Berlin"), "2026-03-29T00:59:59Z", "SUN", "2026-03-29", 1, 59),
        (Some("Europe/Berlin"), "2026-03-29T01:00:00Z", "SUN", "2026-03-29", 3, 0),
        // … and from 03:00 back to 02:00: the hour comes twice.
        (Some("Europe/Berlin"), "2026-10-25T00:30:00Z", "SUN", "2026-10-25", 2, 30),
        (Some("Europe/Berlin"), "2026-10-25T01:30:00Z", "SUN", "2026-10-25", 2, 30),
        (Some("Asia/Kolkata"), "2026-12-31T18:45:00Z", "FRI", "2027-01-01", 0, 15),
        (Some("America/St_Johns"), "2026-01-01T03:00:00Z", "WED", "2025-12-31", 23, 30),
    ] {
        let asked = Asked { time_zone: zone.map(str::to_owned), now: now.parse().unwrap(), ..asked(rule()) };
        let condition = format!(
            r#"context.local.weekday == "{weekday}" && context.local.date == "{date}"
               && context.local.hour == {hour} && context.local.minute == {minute}"#
        );
        assert!(told(&never(&condition), &asked), "{zone:?} {now}");
    }
}

#[test]
fn a_zone_that_is_none_is_refused() {
    for name in ["Mars/Olympus", "", "CET+1 or so", "../etc/passwd"] {
        let error = time_zone(name).unwrap_err().to_string();
        assert!(error.contains("Europe/Berlin"), "{error}");
    }
    assert!(time_zone("America/Argentina/Buenos_Aires").is_ok());
}

#[test]
fn facts_that_make_no_question_change_nothing() {
    let mut loops = asked(rule());
    loops.account_facts.as_mut().unwrap().ou_path.push("ou-1".to_owned());
    let refused = Policies::load(ACT_AND_TELL).unwrap().ask_again(&loops, &Exemptions::default());
    assert!(matches!(refused, Err(PolicyError::Question(_))));
}

#[test]
fn defect_16_a_tag_on_a_resource_exempts_it_from_nothing() {
    let tags = ["redress:exempt", "redress", "exempt", "aws:ssm:exempt", "SecurityException"];
    let evidence =
        GuardEvidence { tags: tags.map(|tag| (tag.to_owned(), "true".to_owned())).into(), ..GuardEvidence::default() };
    for set in redress_common::aws::state_table::PolicySetName::SHIPPED {
        let policies = Policies::shipped(set).unwrap();
        assert!(!policies.needs(&Exemptions::default()).contains(&Fact::ResourceTags), "{set:?}");
        for by in [rule(), jo()] {
            let plain = asked(by);
            let tagged = Asked { evidence: Some(evidence.clone()), ..plain.clone() };
            let say = |asked| policies.ask_again(asked, &Exemptions::default()).unwrap();
            assert_eq!(say(&tagged), say(&plain), "{set:?}");
        }
    }
}

//! Tests of policies and of the shipped sets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod destroy;
mod exemptions;
mod facts;
mod shipped;
mod text;
mod unknown;

use redress_common::catalogue::Risk;
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::finding::{Severity, SeverityLabel};
use redress_common::ids::AccountId;
use redress_common::items::account::AccountFacts;
use redress_common::items::exemption::Exemptions;

use super::*;

const ACT_AND_TELL: &str = r#"
@id("act") permit (principal, action == Redress::Action::"Act", resource);
@id("tell") permit (principal, action == Redress::Action::"Notify", resource);
"#;

fn jo() -> Asker {
    Asker::Analyst("arn:aws:sts::999999999999:assumed-role/Admin/jo".to_owned())
}

fn rule() -> Asker {
    Asker::Rule("Config".to_owned())
}

/// A question of which everything is known.
fn asked(by: Asker) -> Asked {
    let trigger = match &by {
        Asker::Rule(name) => name.clone(),
        Asker::Schedule(_) => "Import".to_owned(),
        Asker::Analyst(name) if name == "CustomAction" => name.clone(),
        Asker::Analyst(_) => "Operator".to_owned(),
    };
    let account: AccountId = "111122223333".parse().unwrap();
    Asked {
        by,
        trigger,
        mode: Mode::Apply,
        pilot: false,
        account_facts: Some(AccountFacts {
            account: account.clone(),
            name: "shop".to_owned(),
            ou_path: ["r-root", "ou-1", "ou-2", "ou-3", "ou-4", "ou-5"].map(str::to_owned).to_vec(),
            tags: [("env".to_owned(), "production".to_owned())].into(),
            read_at: 0,
        }),
        account,
        region: "eu-central-1".parse().unwrap(),
        resource: "arn:aws:s3:::b".to_owned(),
        kind: "AWS::S3::Bucket".to_owned(),
        control: "S3.8".parse().unwrap(),
        finding_type: "S3.8".to_owned(),
        severity: Severity { score: 70, label: SeverityLabel::High },
        risk: Risk::Reversible,
        frameworks: BTreeSet::from(["CIS v3.0.0".to_owned()]),
        evidence: Some(GuardEvidence::default()),
        now: "2026-11-20T15:00:00Z".parse().unwrap(),
        time_zone: None,
        first_seen: "2026-11-20T12:30:00Z".parse().unwrap(),
        calendar: Calendar::None,
        breaker_open: false,
        sample: false,
    }
}

fn ask(source: &str, asked: &Asked) -> Verdict {
    Policies::load(source).unwrap().ask_again(asked, &Exemptions::default()).unwrap()
}

/// What a set that acts on everything, and has this too, says.
fn with(policy: &str, asked: &Asked) -> Verdict {
    ask(&format!("{ACT_AND_TELL}{policy}"), asked)
}

fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

#[test]
fn a_forbid_wins_and_is_named() {
    let exempt = r#"
        @id("exempt") forbid (principal, action in [Redress::Action::"Act", Redress::Action::"Approve"], resource)
          when { resource.account == "111122223333" };"#;
    let verdict = with(exempt, &asked(jo()));
    assert_eq!(verdict.disposition, Disposition::Notify);
    assert_eq!(verdict.policies, ids(["exempt", "tell"]));
}

#[test]
fn an_empty_set_ignores() {
    assert_eq!(ask("", &asked(jo())).disposition, Disposition::Ignore);
}

#[test]
fn defect_08_a_policy_that_cannot_be_evaluated_never_leads_to_more_than_telling() {
    for effect in ["forbid", "permit"] {
        let overflow = format!(
            r#"@id("tell") permit (principal, action == Redress::Action::"Notify", resource);
            @id("act") permit (principal, action == Redress::Action::"Act", resource) when {{ resource.severity > {} }};
            @id("approve") permit (principal, action == Redress::Action::"Approve", resource);
            @id("broken") {effect} (principal, action == Redress::Action::"Act", resource)
              when {{ resource.severity * 9223372036854775807 > 1 }};"#,
            if effect == "forbid" { 1 } else { 99 }
        );
        let verdict = ask(&overflow, &asked(jo()));
        assert_eq!(verdict.disposition, Disposition::Notify);
        assert!(verdict.error.unwrap().contains("broken"));
    }
}

#[test]
fn of_the_policies_that_ask_for_people_the_strictest_counts() {
    let set = r#"
        @id("one") permit (principal, action == Redress::Action::"Approve", resource);
        @id("three") @approvers("3") permit (principal, action == Redress::Action::"Approve", resource);
        @id("other") @four_eyes("true") permit (principal, action == Redress::Action::"Approve", resource);
        @id("elsewhere") @approvers("9") permit (principal, action == Redress::Action::"Approve", resource)
          when { resource.region == "eu-west-1" };"#;
    let verdict = ask(set, &asked(rule()));
    assert_eq!((verdict.disposition, verdict.approvers, verdict.four_eyes), (Disposition::Approve, 3, true));
    let one = ask(set.lines().nth(1).unwrap(), &asked(rule()));
    assert_eq!((one.disposition, one.approvers, one.four_eyes), (Disposition::Approve, 1, false));
}

#[test]
fn a_policy_that_asks_for_more_people_counts_when_it_may_apply() {
    let set = r#"
        @id("one") permit (principal, action == Redress::Action::"Approve", resource);
        @id("two") @approvers("2") permit (principal, action == Redress::Action::"Approve", resource)
          when { resource.critical };"#;
    let verdict = ask(set, &Asked { evidence: None, ..asked(rule()) });
    assert_eq!((verdict.disposition, verdict.approvers), (Disposition::Approve, 2));
}

#[test]
fn a_question_is_the_same_when_it_comes_back_from_the_ledger() {
    let question = asked(jo());
    assert_eq!(Asked::of_text(&question.text().unwrap()).unwrap(), question);
}

#[test]
fn a_question_with_the_most_and_longest_tags_is_kept_and_a_longer_one_is_not() {
    let tags = |count: usize| (0..count).map(|n| (format!("{n:0128}"), "\u{e4}".repeat(256))).collect();
    let of = |count| Asked {
        evidence: Some(GuardEvidence { tags: tags(count), ..GuardEvidence::default() }),
        ..asked(rule())
    };
    assert!(of(50).text().is_some());
    assert!(of(500).text().is_none());
}

#[test]
fn a_question_leaves_facts_of_another_account_and_the_list_of_dependents_behind() {
    let other = AccountFacts { account: "444455556666".parse().unwrap(), ..asked(rule()).account_facts.unwrap() };
    let dependent = redress_common::contract::Dependent { resource_type: "t".to_owned(), id: "i".to_owned() };
    let evidence = GuardEvidence { dependents: vec![dependent], dependent_count: 7, ..GuardEvidence::default() };
    let whole = asked(rule());
    let trigger = redress_common::finding::Trigger::Import;
    let question = Question {
        trigger: &trigger,
        campaign: Some("old-buckets"),
        mode: Mode::Apply,
        pilot: false,
        account: &whole.account,
        account_facts: Some(&other),
        region: &whole.region,
        arn: &whole.resource,
        kind: &whole.kind,
        control: &whole.control,
        finding_type: &whole.finding_type,
        severity: whole.severity,
        risk: whole.risk,
        frameworks: &whole.frameworks,
        evidence: Some(&evidence),
        now: whole.now,
        time_zone: None,
        first_seen: whole.first_seen,
        calendar: Calendar::Open,
        breaker_open: true,
        sample: false,
    };
    let asked = Asked::from(&question);
    assert_eq!(asked.account_facts, None);
    assert_eq!(asked.evidence.unwrap(), GuardEvidence { dependents: vec![], ..evidence });
    assert_eq!(asked.by, Asker::Schedule("old-buckets".to_owned()));
}

#[test]
#[ignore = "a figure, not a check: cargo test --release -p redress-admin --lib policy::tests::how_long -- --ignored --nocapture"]
fn how_long_a_warm_decision_takes() {
    use redress_common::items::exemption::Exemption;
    let exemption = |n: u32| Exemption {
        id: format!("x{n}"),
        control: None,
        account: None,
        ou: Some(format!("ou-{}", n + 100)),
        resource: Some(format!("arn:aws:s3:::bucket-{n}").parse().unwrap()),
        owner: "web".to_owned(),
        reason: "moves".to_owned(),
        expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        created_by: "arn:aws:iam::999999999999:user/jo".to_owned(),
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    for (count, seen) in [(0, true), (0, false), (20, true), (500, true)] {
        let exemptions = Exemptions { version: 1, exemptions: (0..count).map(exemption).collect() };
        let policies =
            Policies::load(source(redress_common::aws::state_table::PolicySetName::Standard).unwrap()).unwrap();
        let mut asked = asked(rule());
        if !seen {
            asked.evidence = None;
        }
        let cold = std::time::Instant::now();
        policies.ask_again(&asked, &exemptions).unwrap();
        let cold = cold.elapsed();
        // Time on the processor: what else the machine does is not counted.
        let spent = || -> u64 {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        let start = spent();
        for _ in 0..1_000 {
            policies.ask_again(&asked, &exemptions).unwrap();
        }
        println!("{count} exemptions, guard asked {seen}: first {cold:?}, then {} us", (spent() - start) / 1_000_000);
    }
}

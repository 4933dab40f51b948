//! Tests of policies and of the shipped sets.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use proptest::prelude::*;
use redress_common::aws::state_table::PolicySetName;
use redress_common::catalogue::Risk;
use redress_common::contract::{GuardEvidence, Mode};
use redress_common::finding::{Severity, Trigger};
use redress_common::items::exemption::Exemptions;

use super::*;
use redress_common::finding::{CustomAction, SeverityLabel};

fn person() -> Trigger {
    Trigger::CustomAction(CustomAction::Remediate)
}

fn operator() -> Trigger {
    Trigger::Operator { by: "arn:aws:sts::999999999999:assumed-role/Admin/jo".to_owned(), mode: Mode::Apply }
}

fn evidence() -> &'static GuardEvidence {
    static NOTHING: LazyLock<GuardEvidence> = LazyLock::new(GuardEvidence::default);
    &NOTHING
}

fn ask_of(policies: &Policies, trigger: &Trigger, mode: Mode, risk: Risk, control: &str, pilot: bool) -> Verdict {
    policies
        .ask(
            &Question {
                trigger,
                mode,
                pilot,
                account: &"111122223333".parse().unwrap(),
                region: &"eu-central-1".parse().unwrap(),
                arn: "arn:aws:s3:::b",
                kind: "AWS::S3::Bucket",
                control: &control.parse().unwrap(),
                severity: Severity { score: 70, label: SeverityLabel::High },
                risk,
                frameworks: &BTreeSet::from(["CIS v3.0.0".to_owned()]),
                campaign: None,
                account_facts: None,
                evidence: Some(evidence()),
                now: "2026-11-20T15:00:00Z".parse().unwrap(),
                time_zone: None,
                first_seen: "2026-11-20T12:30:00Z".parse().unwrap(),
                calendar: Calendar::None,
                breaker_open: false,
            },
            &Exemptions::default(),
        )
        .unwrap()
}

fn ask(set: PolicySetName, trigger: &Trigger, mode: Mode, risk: Risk, pilot: bool) -> Disposition {
    ask_of(Policies::shipped(set).unwrap(), trigger, mode, risk, "S3.8", pilot).disposition
}

#[test]
fn every_shipped_set_validates_and_names_its_policies() {
    for name in PolicySetName::SHIPPED {
        let policies = Policies::load(source(name).unwrap()).unwrap();
        assert_eq!(policies.sha256().len(), 64);
        for id in policies.ids() {
            assert!(id.starts_with(&format!("{}.", name.as_str())), "{id}");
        }
    }
}

#[test]
fn the_shipped_sets_say() {
    use Disposition::{Act, Approve, Notify};
    use PolicySetName::{Observe, Pilot, Standard};
    use Risk::{Destructive, Disruptive, Reversible};
    let (rule, person) = (Trigger::Config, person());
    for (set, trigger, mode, risk, pilot, expected) in [
        (Observe, &rule, Mode::Apply, Reversible, true, Notify),
        (Observe, &person, Mode::Apply, Reversible, true, Notify),
        (Observe, &person, Mode::DryRun, Destructive, false, Act),
        (Observe, &person, Mode::Restore, Reversible, false, Act),
        (Observe, &rule, Mode::DryRun, Reversible, true, Notify),
        (Pilot, &rule, Mode::Apply, Reversible, true, Act),
        (Pilot, &rule, Mode::Apply, Reversible, false, Notify),
        (Pilot, &rule, Mode::Apply, Disruptive, true, Notify),
        (Pilot, &person, Mode::Apply, Disruptive, false, Act),
        (Pilot, &person, Mode::Apply, Destructive, false, Approve),
        (Standard, &rule, Mode::Apply, Reversible, false, Act),
        (Standard, &rule, Mode::Apply, Disruptive, false, Approve),
        (Standard, &rule, Mode::Apply, Destructive, false, Approve),
        (Standard, &person, Mode::Apply, Disruptive, false, Act),
        (Standard, &person, Mode::Apply, Destructive, false, Approve),
        (Standard, &person, Mode::Restore, Reversible, false, Act),
    ] {
        assert_eq!(ask(set, trigger, mode, risk, pilot), expected, "{set:?} {trigger:?} {mode:?} {risk:?} {pilot}");
    }
}

#[test]
fn open_admin_ports_are_closed_by_a_policy_of_that_name() {
    let policies = Policies::shipped(PolicySetName::Standard).unwrap();
    let verdict = ask_of(policies, &Trigger::Config, Mode::Apply, Risk::Disruptive, "EC2.13", false);
    assert_eq!(verdict.disposition, Disposition::Act);
    assert_eq!(verdict.policies, BTreeSet::from(["standard.close-open-admin-ports".to_owned()]));
    let other = ask_of(policies, &Trigger::Config, Mode::Apply, Risk::Disruptive, "EC2.19", false);
    assert_eq!(other.disposition, Disposition::Approve);
}

#[test]
fn a_forbid_wins_and_is_named() {
    let exempt = r#"
        @id("act") permit (principal, action == Redress::Action::"Act", resource);
        @id("tell") permit (principal, action == Redress::Action::"Notify", resource);
        @id("exempt") forbid (principal, action in [Redress::Action::"Act", Redress::Action::"Approve"], resource)
          when { resource.account == "111122223333" };"#;
    let policies = Policies::load(exempt).unwrap();
    let verdict = ask_of(&policies, &operator(), Mode::Apply, Risk::Reversible, "S3.8", false);
    assert_eq!(verdict.disposition, Disposition::Notify);
    assert_eq!(verdict.policies, BTreeSet::from(["exempt".to_owned(), "tell".to_owned()]));
}

#[test]
fn an_empty_set_ignores() {
    let policies = Policies::load("").unwrap();
    let verdict = ask_of(&policies, &person(), Mode::Apply, Risk::Reversible, "S3.8", true);
    assert_eq!(verdict.disposition, Disposition::Ignore);
}

#[test]
fn defect_08_a_policy_that_cannot_be_evaluated_never_leads_to_more_than_telling() {
    let overflow = r#"
        @id("act") permit (principal, action, resource);
        @id("broken") forbid (principal, action == Redress::Action::"Act", resource)
          when { resource.severity * 9223372036854775807 > 1 };"#;
    let policies = Policies::load(overflow).unwrap();
    let verdict = ask_of(&policies, &person(), Mode::Apply, Risk::Reversible, "S3.8", true);
    assert_eq!(verdict.disposition, Disposition::Notify);
    assert!(verdict.error.unwrap().contains("broken"));
}

proptest! {
    #[test]
    fn no_rule_ever_acts_on_what_cannot_be_undone(set in 0..3_usize, which in 0..3_usize, pilot: bool) {
        let trigger = [Trigger::Config, Trigger::Import, Trigger::GuardDuty][which].clone();
        let said = ask(PolicySetName::SHIPPED[set], &trigger, Mode::Apply, Risk::Destructive, pilot);
        prop_assert!(said < Disposition::Act);
    }

    #[test]
    fn observe_changes_nothing_unless_a_person_puts_something_back(which in 0..5_usize, risk in 0..3_usize, pilot: bool) {
        let trigger = [Trigger::Config, Trigger::Import, Trigger::GuardDuty, person(), operator()][which].clone();
        let risk = [Risk::Reversible, Risk::Disruptive, Risk::Destructive][risk];
        prop_assert_eq!(ask(PolicySetName::Observe, &trigger, Mode::Apply, risk, pilot), Disposition::Notify);
    }
}

//! What the shipped sets say.

use proptest::prelude::*;
use redress_common::aws::state_table::PolicySetName;
use redress_common::contract::Ownership;

use super::*;

fn ask(set: PolicySetName, asked: &Asked) -> Verdict {
    Policies::shipped(set).unwrap().ask_again(asked, &Exemptions::default()).unwrap()
}

fn custom_action() -> Asker {
    Asker::Analyst("CustomAction".to_owned())
}

fn campaign() -> Asker {
    Asker::Schedule("old-buckets".to_owned())
}

fn owned(vouched: bool, evidence: GuardEvidence) -> GuardEvidence {
    let [manager, name, hint] = ["Terraform", "net", "change it there"].map(str::to_owned);
    GuardEvidence { owned_by: Some(Ownership { manager, name, hint, vouched }), ..evidence }
}

fn critical(evidence: GuardEvidence) -> GuardEvidence {
    GuardEvidence { critical: Some("tier=0".to_owned()), ..evidence }
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
    for (set, by, mode, risk, pilot, expected) in [
        (Observe, rule(), Mode::Apply, Reversible, true, Notify),
        (Observe, campaign(), Mode::Apply, Reversible, true, Notify),
        (Observe, jo(), Mode::Apply, Reversible, true, Notify),
        (Observe, jo(), Mode::DryRun, Destructive, false, Act),
        (Observe, jo(), Mode::Restore, Reversible, false, Act),
        (Observe, rule(), Mode::DryRun, Reversible, true, Notify),
        (Pilot, rule(), Mode::Apply, Reversible, true, Act),
        (Pilot, campaign(), Mode::Apply, Reversible, true, Act),
        (Pilot, rule(), Mode::Apply, Reversible, false, Notify),
        (Pilot, campaign(), Mode::Apply, Reversible, false, Notify),
        (Pilot, rule(), Mode::Apply, Disruptive, true, Notify),
        (Pilot, rule(), Mode::Apply, Destructive, true, Notify),
        (Pilot, jo(), Mode::Apply, Disruptive, false, Act),
        (Pilot, jo(), Mode::Apply, Destructive, false, Approve),
        (Pilot, custom_action(), Mode::Apply, Destructive, false, Approve),
        (Standard, rule(), Mode::Apply, Reversible, false, Act),
        (Standard, campaign(), Mode::Apply, Reversible, false, Act),
        (Standard, rule(), Mode::Apply, Disruptive, false, Approve),
        (Standard, rule(), Mode::Apply, Destructive, false, Approve),
        (Standard, campaign(), Mode::Apply, Destructive, false, Approve),
        (Standard, jo(), Mode::Apply, Disruptive, false, Act),
        (Standard, jo(), Mode::Apply, Destructive, false, Approve),
        (Standard, custom_action(), Mode::Apply, Destructive, false, Approve),
        (Standard, jo(), Mode::Restore, Reversible, false, Act),
    ] {
        let verdict = ask(set, &Asked { mode, risk, pilot, ..asked(by.clone()) });
        assert_eq!(verdict.disposition, expected, "{set:?} {by:?} {mode:?} {risk:?} {pilot}");
        assert_eq!(verdict.error, None);
    }
}

#[test]
fn of_a_sample_a_dry_run_is_made_and_nothing_more_whoever_asks() {
    for set in PolicySetName::SHIPPED {
        let name = set.as_str();
        for (by, mode, risk, permit) in [
            (rule(), Mode::DryRun, Risk::Disruptive, "dry-run-a-sample"),
            (Asker::Rule("GuardDuty".to_owned()), Mode::DryRun, Risk::Destructive, "dry-run-a-sample"),
            (custom_action(), Mode::DryRun, Risk::Disruptive, "dry-run-when-a-person-asks"),
        ] {
            let dry = ask(set, &Asked { mode, risk, sample: true, ..asked(by.clone()) });
            assert_eq!(
                (dry.disposition, dry.policies),
                (Disposition::Act, ids([&format!("{name}.{permit}")])),
                "{by:?}"
            );
        }
        for by in [rule(), campaign(), jo(), custom_action()] {
            for (mode, risk) in [Mode::Apply, Mode::Restore]
                .into_iter()
                .flat_map(|mode| [Risk::Reversible, Risk::Disruptive, Risk::Destructive].map(|risk| (mode, risk)))
            {
                let more = ask(set, &Asked { mode, risk, sample: true, pilot: true, ..asked(by.clone()) });
                assert_eq!(more.disposition, Disposition::Notify, "{name} {by:?} {mode:?} {risk:?}");
            }
        }
    }
}

#[test]
fn open_admin_ports_are_closed_by_a_policy_of_that_name() {
    let of = |control: &str| {
        let asked = Asked { control: control.parse().unwrap(), risk: Risk::Disruptive, ..asked(rule()) };
        ask(PolicySetName::Standard, &asked)
    };
    assert_eq!(of("EC2.13").disposition, Disposition::Act);
    assert_eq!(of("EC2.13").policies, ids(["standard.close-open-admin-ports"]));
    assert_eq!(of("EC2.19").disposition, Disposition::Approve);
}

#[test]
fn two_people_stand_behind_everything_that_cannot_be_undone() {
    for (by, approvers) in [(rule(), 2), (campaign(), 2), (custom_action(), 2), (jo(), 1)] {
        let verdict = ask(PolicySetName::Standard, &Asked { risk: Risk::Destructive, ..asked(by.clone()) });
        assert_eq!((verdict.approvers, verdict.four_eyes), (approvers, true), "{by:?}");
    }
    let disruptive = ask(PolicySetName::Standard, &Asked { risk: Risk::Disruptive, ..asked(rule()) });
    assert_eq!((disruptive.approvers, disruptive.four_eyes), (1, false));
}

#[test]
fn a_closed_calendar_holds_rules_back_and_leaves_approvals_and_people() {
    use Disposition::{Act, Approve, Notify};
    for (by, risk, calendar, expected) in [
        (rule(), Risk::Reversible, Calendar::Closed, Notify),
        (campaign(), Risk::Reversible, Calendar::Closed, Notify),
        (rule(), Risk::Reversible, Calendar::Open, Act),
        (rule(), Risk::Disruptive, Calendar::Closed, Approve),
        (rule(), Risk::Reversible, Calendar::Unreadable, Notify),
        (jo(), Risk::Reversible, Calendar::Closed, Act),
        (jo(), Risk::Reversible, Calendar::Unreadable, Act),
    ] {
        let verdict = ask(PolicySetName::Standard, &Asked { risk, calendar, ..asked(by.clone()) });
        assert_eq!(verdict.disposition, expected, "{by:?} {risk:?} {calendar:?}");
        assert_eq!(verdict.error.is_some(), calendar == Calendar::Unreadable && by == rule());
    }
}

#[test]
fn rules_leave_alone_what_others_own_and_ask_about_what_a_tag_says() {
    use Disposition::{Act, Approve, Notify};
    use PolicySetName::{Pilot, Standard};
    let clean = GuardEvidence::default();
    let (stack, tag, critical) = (owned(true, clean.clone()), owned(false, clean.clone()), critical(clean));
    for (set, by, risk, evidence, expected) in [
        (Standard, rule(), Risk::Reversible, &stack, Notify),
        (Standard, rule(), Risk::Disruptive, &stack, Notify),
        (Standard, campaign(), Risk::Reversible, &stack, Notify),
        (Standard, jo(), Risk::Reversible, &stack, Act),
        (Standard, rule(), Risk::Reversible, &tag, Approve),
        (Standard, rule(), Risk::Reversible, &critical, Approve),
        (Standard, jo(), Risk::Reversible, &critical, Act),
        (Pilot, rule(), Risk::Reversible, &stack, Notify),
        (Pilot, rule(), Risk::Reversible, &tag, Approve),
        (Pilot, rule(), Risk::Reversible, &critical, Approve),
    ] {
        let asked = Asked { risk, pilot: true, evidence: Some(evidence.clone()), ..asked(by.clone()) };
        assert_eq!(ask(set, &asked).disposition, expected, "{set:?} {by:?} {risk:?} {evidence:?}");
    }
}

#[test]
fn defect_16_what_a_tag_says_never_ends_in_silence() {
    let by_tags = owned(false, critical(GuardEvidence::default()));
    for risk in [Risk::Reversible, Risk::Disruptive, Risk::Destructive] {
        let tagged = Asked { risk, evidence: Some(by_tags.clone()), ..asked(rule()) };
        assert_eq!(ask(PolicySetName::Standard, &tagged).disposition, Disposition::Approve, "{risk:?}");
    }
}

#[test]
fn defect_08_without_the_guards_answer_rules_change_nothing_and_people_can_still_undo() {
    let blind = |by, mode| Asked { mode, evidence: None, account_facts: None, ..asked(by) };
    let verdict = ask(PolicySetName::Standard, &blind(rule(), Mode::Apply));
    assert_eq!(verdict.disposition, Disposition::Notify);
    assert_eq!(verdict.missing, BTreeSet::from([Fact::Ownership, Fact::Critical]));
    assert!(verdict.error.unwrap().contains("standard.no-change-past-the-owner"));
    for mode in [Mode::Restore, Mode::DryRun, Mode::Apply] {
        assert_eq!(ask(PolicySetName::Standard, &blind(jo(), mode)).disposition, Disposition::Act, "{mode:?}");
    }
    // What would be told anyway needs no guard.
    for set in [PolicySetName::Observe, PolicySetName::Pilot] {
        let verdict = ask(set, &blind(rule(), Mode::Apply));
        assert_eq!((verdict.disposition, verdict.error), (Disposition::Notify, None), "{set:?}");
    }
}

#[test]
fn nobody_says_yes_to_what_they_asked_for_themselves() {
    let standard = Policies::shipped(PolicySetName::Standard).unwrap();
    let may = |asked: &Asked, approver: &str| {
        let now = asked.now;
        standard.may_answer(approver, asked, &Exemptions::default(), now).unwrap().permitted
    };
    let of_jo = Asked { risk: Risk::Destructive, ..asked(jo()) };
    assert!(!may(&of_jo, jo().id()));
    assert!(may(&of_jo, "arn:aws:sts::999999999999:assumed-role/Admin/max"));
    // The same person with another role, and a user and a session of one name.
    assert!(!may(&of_jo, "arn:aws:sts::999999999999:assumed-role/Auditor/jo"));
    assert!(!may(&of_jo, "arn:aws:iam::999999999999:user/staff/Jo"));
    assert!(may(&asked(rule()), jo().id()));
    // A rule's name is nobody's.
    assert!(may(&asked(rule()), "arn:aws:iam::999999999999:user/Config"));
}

#[test]
fn under_observe_nobody_says_yes() {
    let observe = Policies::shipped(PolicySetName::Observe).unwrap();
    let asked = asked(rule());
    assert!(!observe.may_answer(jo().id(), &asked, &Exemptions::default(), asked.now).unwrap().permitted);
}

#[test]
fn what_the_sets_speak_of() {
    let none = Exemptions::default();
    let observe = Policies::shipped(PolicySetName::Observe).unwrap();
    assert!(observe.needs(&none).is_empty());
    let standard = Policies::shipped(PolicySetName::Standard).unwrap();
    assert!(standard.needs_evidence() && standard.needs_calendar() && !standard.needs_account(&none));
}

proptest! {
    #[test]
    fn no_rule_ever_acts_on_what_cannot_be_undone(
        set in 0..3_usize, by in 0..4_usize, pilot: bool, is_owned: bool, is_critical: bool, known: bool, calendar in 0..4_usize,
    ) {
        let by = [rule(), Asker::Rule("Import".to_owned()), Asker::Rule("GuardDuty".to_owned()), campaign()][by].clone();
        let calendar = [Calendar::None, Calendar::Open, Calendar::Closed, Calendar::Unreadable][calendar];
        let mut evidence = GuardEvidence::default();
        if is_owned { evidence = owned(pilot, evidence); }
        if is_critical { evidence = critical(evidence); }
        let asked = Asked { pilot, risk: Risk::Destructive, evidence: known.then_some(evidence), calendar, ..asked(by) };
        let verdict = ask(PolicySetName::SHIPPED[set], &asked);
        prop_assert!(verdict.disposition < Disposition::Act);
        prop_assert!(verdict.disposition < Disposition::Approve || verdict.approvers == 2);
    }

    #[test]
    fn observe_changes_nothing_unless_a_person_puts_something_back(by in 0..4_usize, risk in 0..3_usize, pilot: bool) {
        let by = [rule(), campaign(), jo(), custom_action()][by].clone();
        let risk = [Risk::Reversible, Risk::Disruptive, Risk::Destructive][risk];
        prop_assert_eq!(ask(PolicySetName::Observe, &Asked { risk, pilot, ..asked(by) }).disposition, Disposition::Notify);
    }
}

/// Seed 003: contain narrowly, by a list of types and accounts. The list of docs/policy.md, on top of a shipped set.
#[test]
fn a_list_says_which_types_are_contained_in_which_account() {
    let page = include_str!("../../../../docs/policy.md");
    let example = page.split("```cedar\n").find(|part| part.contains("mine.contain-only-what-is-listed")).unwrap();
    let listed = example.split("```").next().unwrap().replace("111122223333", asked(rule()).account.as_str());
    let source = format!("{}\n{listed}", source(PolicySetName::Standard).unwrap());
    let policies = Policies::load(&source).unwrap();
    let of = |account: &str, finding_type: &str, by: Asker| {
        let account: AccountId = account.parse().unwrap();
        let known = asked(rule()).account_facts.map(|facts| AccountFacts { account: account.clone(), ..facts });
        let asked = Asked {
            account,
            account_facts: known,
            finding_type: finding_type.to_owned(),
            control: "Contain.EC2Instance".parse().unwrap(),
            risk: Risk::Disruptive,
            severity: Severity { score: 80, label: SeverityLabel::High },
            ..asked(by)
        };
        policies.ask_again(&asked, &Exemptions::default()).unwrap().disposition
    };
    let (listed, other) = ("111122223333", "444455556666");
    assert_eq!(of(listed, "CryptoCurrency:EC2/BitcoinTool.B!DNS", rule()), Disposition::Act);
    assert_eq!(of(listed, "Backdoor:EC2/C&CActivity.B", rule()), Disposition::Act);
    assert_eq!(of(listed, "Recon:EC2/PortProbeUnprotectedPort", rule()), Disposition::Notify);
    assert_eq!(of(other, "CryptoCurrency:EC2/BitcoinTool.B!DNS", rule()), Disposition::Notify);
    assert_eq!(of(other, "containment", jo()), Disposition::Act, "a person answers for it");
}

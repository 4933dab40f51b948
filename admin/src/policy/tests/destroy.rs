//! What cannot be had back: nobody alone, no rule and no campaign, in no set.

use redress_common::aws::state_table::PolicySetName;

use super::*;

fn by_all() -> [Asker; 6] {
    let rule = |name: &str| Asker::Rule(name.to_owned());
    let button = Asker::Analyst("CustomAction".to_owned());
    [rule("Config"), rule("Import"), rule("GuardDuty"), Asker::Schedule("old-keys".to_owned()), jo(), button]
}

fn of(control: &str, by: Asker) -> Asked {
    Asked { control: control.parse().unwrap(), risk: Risk::Destructive, pilot: true, ..asked(by) }
}

#[test]
fn of_the_shipped_sets_only_two_people_destroy() {
    use Disposition::{Approve, Notify};
    for set in PolicySetName::SHIPPED {
        let policies = Policies::shipped(set).unwrap();
        for control in ["Destroy.EC2Instance", "Destroy.IAMUserKeys"] {
            for by in by_all() {
                let verdict = policies.ask_again(&of(control, by.clone()), &Exemptions::default()).unwrap();
                let is_person = matches!(by, Asker::Analyst(_));
                let expected = if is_person && set != PolicySetName::Observe { Approve } else { Notify };
                assert_eq!(verdict.disposition, expected, "{set:?} {by:?}");
                let people = match (expected, by.id()) {
                    (Approve, "CustomAction") => (2, true),
                    (Approve, _) => (1, true),
                    _ => (0, false),
                };
                assert_eq!((verdict.approvers, verdict.four_eyes), people, "{set:?} {by:?}");
                assert_eq!(verdict.error, None, "the set itself says so: {set:?} {by:?}");
            }
            // Its dry run is a person's, as any.
            let dry = Asked { mode: Mode::DryRun, ..of(control, jo()) };
            let verdict = policies.ask_again(&dry, &Exemptions::default()).unwrap();
            assert_eq!(verdict.disposition, Disposition::Act, "{set:?}");
        }
    }
}

#[test]
fn whoever_is_critical_or_severe_no_rule_destroys_it() {
    let critical = GuardEvidence { critical: Some("tier=0".to_owned()), ..GuardEvidence::default() };
    for set in PolicySetName::SHIPPED {
        for risk in [Risk::Reversible, Risk::Disruptive, Risk::Destructive] {
            for by in by_all().into_iter().filter(|by| !matches!(by, Asker::Analyst(_))) {
                let severity = Severity { score: 100, label: SeverityLabel::Critical };
                let evidence = Some(critical.clone());
                let asked = Asked { severity, risk, evidence, ..of("Destroy.EC2Instance", by.clone()) };
                let verdict = Policies::shipped(set).unwrap().ask_again(&asked, &Exemptions::default()).unwrap();
                assert_eq!(verdict.disposition, Disposition::Notify, "{set:?} {by:?} {risk:?}");
            }
        }
    }
}

#[test]
fn no_set_of_operators_lets_one_person_or_a_rule_destroy() {
    let approves = r#"
        @id("tell") permit (principal, action == Redress::Action::"Notify", resource);
        @id("ask") permit (principal, action == Redress::Action::"Approve", resource);"#;
    for by in by_all() {
        let asked = of("Destroy.IAMUserKeys", by.clone());
        let acts = ask(ACT_AND_TELL, &asked);
        assert_eq!(acts.disposition, Disposition::Notify, "{by:?}");
        assert!(acts.error.unwrap().contains("another one approves"), "{by:?}");
        let verdict = ask(approves, &asked);
        match by {
            Asker::Analyst(name) => {
                let needed = if name == "CustomAction" { 2 } else { 1 };
                let people = (verdict.disposition, verdict.approvers, verdict.four_eyes);
                assert_eq!(people, (Disposition::Approve, needed, true), "{name}");
            }
            other => assert_eq!(verdict.disposition, Disposition::Notify, "{other:?}"),
        }
    }
    // Nothing else is held to it, and what undoes changes nothing here.
    let other = Asked { risk: Risk::Destructive, ..asked(jo()) };
    assert_eq!(ask(ACT_AND_TELL, &other).disposition, Disposition::Act);
    let undo = Asked { mode: Mode::Restore, ..of("Destroy.IAMUserKeys", jo()) };
    assert_eq!(ask(ACT_AND_TELL, &undo).disposition, Disposition::Act);
}

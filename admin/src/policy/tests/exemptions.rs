//! Exemptions as policies.

use jiff::Timestamp;
use proptest::prelude::*;
use redress_common::aws::state_table::PolicySetName;
use redress_common::items::exemption::Exemption;

use super::*;

fn exemption(id: &str) -> Exemption {
    Exemption {
        id: id.to_owned(),
        control: None,
        account: None,
        ou: None,
        resource: None,
        owner: "web team".to_owned(),
        reason: "moves in March".to_owned(),
        expires_at: "2026-12-01T00:00:00Z".parse().unwrap(),
        created_by: "arn:aws:iam::999999999999:user/jo".to_owned(),
        created_at: "2026-11-01T00:00:00Z".parse().unwrap(),
    }
}

fn with(exemption: Exemption) -> Exemptions {
    Exemptions { version: 1, exemptions: vec![exemption] }
}

fn standard(asked: &Asked, exemptions: &Exemptions) -> Verdict {
    Policies::shipped(PolicySetName::Standard).unwrap().ask_again(asked, exemptions).unwrap()
}

#[test]
fn an_exemption_covers_its_scope_and_no_more() {
    let some = |id: &str| Some(id.to_owned());
    let (yes, no) = (true, false);
    for (covers, exemption) in [
        (yes, Exemption { control: Some("S3.8".parse().unwrap()), ..exemption("x") }),
        (no, Exemption { control: Some("S3.9".parse().unwrap()), ..exemption("x") }),
        (yes, Exemption { account: Some("111122223333".parse().unwrap()), ..exemption("x") }),
        (no, Exemption { account: Some("444455556666".parse().unwrap()), ..exemption("x") }),
        (yes, Exemption { ou: some("ou-2"), ..exemption("x") }),
        (no, Exemption { ou: some("ou-6"), ..exemption("x") }),
        (yes, Exemption { resource: Some("arn:aws:s3:::b".parse().unwrap()), ..exemption("x") }),
        (no, Exemption { resource: Some("arn:aws:s3:::bb".parse().unwrap()), ..exemption("x") }),
        (no, Exemption { ou: some("ou-2"), control: Some("S3.9".parse().unwrap()), ..exemption("x") }),
        (yes, exemption("everything")),
    ] {
        for (by, risk) in [(rule(), Risk::Reversible), (rule(), Risk::Destructive), (jo(), Risk::Reversible)] {
            let asked = Asked { risk, ..asked(by) };
            let verdict = standard(&asked, &with(exemption.clone()));
            assert_eq!(verdict.disposition == Disposition::Notify, covers, "{exemption:?}");
            assert_eq!(verdict.exemption, covers.then(|| exemption.id.clone()));
            assert_eq!(verdict.policies.contains(&format!("exemption.{}", exemption.id)), covers);
        }
    }
}

#[test]
fn an_exemption_leaves_undo_and_dry_run_alone() {
    for mode in [Mode::Restore, Mode::DryRun] {
        let verdict = standard(&Asked { mode, ..asked(jo()) }, &with(exemption("all")));
        assert_eq!(verdict.disposition, Disposition::Act);
    }
}

#[test]
fn nobody_says_yes_to_what_became_exempt_meanwhile() {
    let standard = Policies::shipped(PolicySetName::Standard).unwrap();
    let asked = asked(rule());
    let may =
        |exemptions: &Exemptions| standard.may_answer(jo().id(), &asked, exemptions, asked.now).unwrap().permitted;
    assert!(may(&Exemptions::default()));
    assert!(!may(&with(exemption("all"))));
}

#[test]
fn an_expired_exemption_forbids_nothing_from_its_last_millisecond_on() {
    let exempt = with(exemption("all"));
    let end = exempt.exemptions[0].expires_at.as_millisecond();
    for (now, expected) in [(end - 1, Disposition::Notify), (end, Disposition::Act), (end + 1, Disposition::Act)] {
        let asked = Asked { now: Timestamp::from_millisecond(now).unwrap(), ..asked(rule()) };
        assert_eq!(standard(&asked, &exempt).disposition, expected);
    }
}

#[test]
fn defect_08_an_exemption_of_a_unit_holds_where_the_accounts_unit_is_not_known() {
    let exempt = with(Exemption { ou: Some("ou-6".to_owned()), ..exemption("unit") });
    let verdict = standard(&Asked { account_facts: None, ..asked(rule()) }, &exempt);
    assert_eq!(verdict.disposition, Disposition::Notify);
    assert_eq!(verdict.missing, BTreeSet::from([Fact::AccountPlace]));
    assert!(Policies::shipped(PolicySetName::Standard).unwrap().needs_account(&exempt));
}

#[test]
fn an_exemption_is_never_read_as_policy_text() {
    let evil = "\"}; @id(\"z\") permit(principal, action, resource) when {\n\\\"//*\u{202e}";
    let mut exemption =
        Exemption { owner: evil.to_owned(), reason: evil.to_owned(), ou: Some(evil.to_owned()), ..exemption("x") };
    let arn = format!("arn:aws:s3:::{}", evil.replace('\n', ""));
    exemption.resource = arn.parse().ok();
    let exempt = with(exemption);
    let verdict = standard(&asked(rule()), &exempt);
    assert_eq!((verdict.disposition, verdict.exemption), (Disposition::Act, None));
    let mut there = asked(rule());
    there.account_facts.as_mut().unwrap().ou_path.push(evil.to_owned());
    if let Some(arn) = &exempt.exemptions[0].resource {
        there.resource = arn.to_string();
    }
    assert_eq!(standard(&there, &exempt).exemption.as_deref(), Some("x"));
}

#[test]
fn exemptions_that_cannot_be_told_apart_or_named_change_nothing() {
    let asked = asked(rule());
    let policies = Policies::shipped(PolicySetName::Standard).unwrap();
    for ids in [vec!["x", "x"], vec!["a,b"], vec![""], vec!["a\nb"], vec!["a\"b"]] {
        let exemptions = Exemptions { version: 1, exemptions: ids.iter().map(|id| exemption(id)).collect() };
        assert!(matches!(policies.ask_again(&asked, &exemptions), Err(PolicyError::Exemption { .. })), "{ids:?}");
    }
}

#[test]
fn exemptions_of_the_same_version_and_other_content_are_not_mistaken() {
    let first = with(Exemption { control: Some("S3.9".parse().unwrap()), ..exemption("x") });
    assert_eq!(standard(&asked(rule()), &first).disposition, Disposition::Act);
    let second = with(Exemption { control: Some("S3.8".parse().unwrap()), ..exemption("x") });
    assert_eq!(standard(&asked(rule()), &second).disposition, Disposition::Notify);
    assert_eq!(standard(&asked(rule()), &first).disposition, Disposition::Act);
}

fn any_exemption() -> impl Strategy<Value = Exemption> {
    let pick = |values: [&'static str; 2]| proptest::option::of(proptest::sample::select(values.to_vec()));
    let ends = 1_795_000_000_000_i64..1_795_400_000_000;
    let scope =
        (pick(["S3.8", "S3.9"]), pick(["111122223333", "444455556666"]), pick(["ou-3", "ou-6"]), pick(["b", "c"]));
    (scope, ends).prop_map(|((control, account, ou, bucket), ends)| Exemption {
        control: control.map(|id| id.parse().unwrap()),
        account: account.map(|id| id.parse().unwrap()),
        ou: ou.map(str::to_owned),
        resource: bucket.map(|name| format!("arn:aws:s3:::{name}").parse().unwrap()),
        expires_at: Timestamp::from_millisecond(ends).unwrap(),
        ..exemption("any")
    })
}

proptest! {
    #[test]
    fn an_exemption_never_widens(
        exemption in any_exemption(), set in 0..3_usize, manual: bool, pilot: bool, risk in 0..3_usize, mode in 0..3_usize,
        placed: bool, seen: bool,
    ) {
        let mut asked = asked(if manual { jo() } else { rule() });
        asked.pilot = pilot;
        asked.risk = [Risk::Reversible, Risk::Disruptive, Risk::Destructive][risk];
        asked.mode = [Mode::DryRun, Mode::Apply, Mode::Restore][mode];
        if !placed { asked.account_facts = None; }
        if !seen { asked.evidence = None; }
        let policies = Policies::shipped(PolicySetName::SHIPPED[set]).unwrap();
        let free = policies.ask_again(&asked, &Exemptions::default()).unwrap();
        let bound = policies.ask_again(&asked, &with(exemption)).unwrap();
        prop_assert!(bound.disposition <= free.disposition);
        prop_assert!(bound.exemption.is_none() || bound.disposition <= Disposition::Notify);
        if asked.mode != Mode::Apply {
            prop_assert_eq!(bound.disposition, free.disposition);
        }
    }
}

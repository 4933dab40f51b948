//! What is said without a fact holds whatever the fact is: any policies, any world.

use std::fmt::Write as _;

use proptest::prelude::*;
use redress_common::contract::Ownership;

use super::*;

/// What conditions are made of: facts that may be unknown, and some that never are.
const ATOMS: [&str; 12] = [
    "resource.owned",
    "resource.ownerVouched",
    "resource.critical",
    "resource.threat",
    "resource.dependents > 3",
    r#"resource.hasTag("keep")"#,
    r#"resource.inAccount.hasTag("env")"#,
    r#"resource in Redress::OrganizationalUnit::"ou-3""#,
    "resource has lastUsedDays",
    "context.pilot",
    r#"resource.risk == "destructive""#,
    r#"context.mode == "Restore""#,
];

fn condition() -> impl Strategy<Value = String> {
    let atom = proptest::sample::select(ATOMS.to_vec()).prop_map(str::to_owned);
    atom.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

fn set() -> impl Strategy<Value = String> {
    let policy = (0..3_usize, any::<bool>(), any::<bool>(), condition(), proptest::option::of(condition()));
    proptest::collection::vec(policy, 1..6).prop_map(|policies| {
        let mut text = String::new();
        for (index, (action, forbid, in_unit, when, unless)) in policies.into_iter().enumerate() {
            let (effect, action) = (if forbid { "forbid" } else { "permit" }, ["Act", "Approve", "Notify"][action]);
            let scope = if in_unit { r#" in Redress::OrganizationalUnit::"ou-3""# } else { "" };
            let unless = unless.map(|body| format!(" unless {{ {body} }}")).unwrap_or_default();
            _ = writeln!(
                text,
                r#"@id("p{index}") {effect} (principal, action == Redress::Action::"{action}", resource{scope}) when {{ {when} }}{unless};"#
            );
        }
        text
    })
}

fn world() -> impl Strategy<Value = Asked> {
    let flags = proptest::array::uniform9(any::<bool>());
    (flags, 0..6_u32).prop_map(|([owned, vouched, critical, threat, tagged, env, unit, used, pilot], dependents)| {
        let mut asked = asked(rule());
        let one = |yes: bool, key: &str| yes.then(|| (key.to_owned(), String::new())).into_iter().collect();
        let [manager, name, hint] = [(); 3].map(|()| "x".to_owned());
        asked.evidence = Some(GuardEvidence {
            tags: one(tagged, "keep"),
            owned_by: owned.then_some(Ownership { manager, name, hint, vouched }),
            dependent_count: dependents,
            last_used: used.then(|| "2026-11-10T14:00:00Z".to_owned()),
            critical: critical.then(|| "tier=0".to_owned()),
            threats: if threat { vec!["198.51.100.7".to_owned()] } else { vec![] },
            ..GuardEvidence::default()
        });
        let facts = asked.account_facts.as_mut().unwrap();
        facts.tags = one(env, "env");
        facts.ou_path.truncate(if unit { 5 } else { 2 });
        asked.pilot = pilot;
        asked
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_global_rejects: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_without_a_fact_holds_whatever_the_fact_is(
        source in set(), known in world(), account: bool, guard: bool, question in 0..7_usize,
    ) {
        // What can never apply is refused: not what is tested here.
        let policies = Policies::load(&source);
        prop_assume!(policies.is_ok());
        let policies = policies.unwrap();
        let ask = |asked: &Asked| policies.ask_again(asked, &Exemptions::default()).unwrap();
        let truth = ask(&known);
        prop_assert_eq!(&truth.error, &None);
        let mut blind = known;
        if account { blind.account_facts = None; }
        if guard { blind.evidence = None; }
        let open = ["tags: no", "owner: no", "dependents: no", "critical: no", "threats: no", "last use: no", "?"][question];
        if let Some(evidence) = &mut blind.evidence {
            evidence.unanswered.push(open.to_owned());
            // What was not answered is not seen either.
            if open.starts_with("tags") { evidence.tags.clear(); }
        }
        let said = ask(&blind);
        prop_assert!(said.disposition <= Disposition::Notify || said.error.is_none());
        if said.error.is_none() {
            prop_assert_eq!(said.disposition, truth.disposition, "{}", source);
        } else {
            prop_assert!(!said.missing.is_empty());
        }
    }
}

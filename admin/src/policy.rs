//! What policy says: ignore, notify, approve or act, and which policies said so.
//!
//! Policies are Cedar, validated against a schema before they are used; a set that does not validate is refused.
//! Fails closed: an error while a policy is evaluated never leads to more than telling people. Nothing here
//! knows of claims, settings or AWS.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::OnceLock;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use redress_common::aws::state_table::PolicySetName;
use redress_common::catalogue::Risk;
use redress_common::contract::Mode;
use redress_common::finding::{Severity, Trigger};
use redress_common::ids::{AccountId, ControlId, Region};
use redress_common::ledger::sha256_hex;

/// The schema that every policy is validated against.
pub const SCHEMA: &str = include_str!("../policies/redress.cedarschema");

/// The source of a shipped set; none of the operators' own.
#[must_use]
pub const fn source(name: PolicySetName) -> Option<&'static str> {
    match name {
        PolicySetName::Observe => Some(include_str!("../policies/observe.cedar")),
        PolicySetName::Pilot => Some(include_str!("../policies/pilot.cedar")),
        PolicySetName::Standard => Some(include_str!("../policies/standard.cedar")),
        PolicySetName::Custom => None,
    }
}

/// A policy set is refused, or cannot be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyError {
    /// It is not Cedar.
    #[error("the policy set is not readable: {0}")]
    Parse(String),
    /// It does not fit the schema.
    #[error("the policy set does not validate against the schema: {0}")]
    Invalid(String),
    /// A policy has no `@id`, or shares it.
    #[error("every policy needs an `@id` of its own; {0}")]
    Id(String),
    /// The set in force is the operators' own, and there is none.
    #[error("the settings ask for the operators' own policy set, and there is none; `redress policy set` stores one")]
    Absent,
    /// The question does not fit the schema.
    #[error("policy cannot be asked about this finding: {0}")]
    Question(String),
}

/// What policy says to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// Nothing, with a record.
    Ignore,
    /// Tell people.
    Notify,
    /// Ask a person, then act.
    Approve,
    /// Act.
    Act,
}

impl Disposition {
    /// As the ledger writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Notify => "notify",
            Self::Approve => "approve",
            Self::Act => "act",
        }
    }
}

/// What policy is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What asked.
    pub trigger: &'a Trigger,
    /// What it asks for.
    pub mode: Mode,
    /// The account is one of the pilot accounts.
    pub pilot: bool,
    /// The account of the resource.
    pub account: &'a AccountId,
    /// The Region in which the remediation would run.
    pub region: &'a Region,
    /// The resource's ARN.
    pub arn: &'a str,
    /// The resource's type.
    pub kind: &'a str,
    /// The control.
    pub control: &'a ControlId,
    /// The finding's severity.
    pub severity: Severity,
    /// The control's risk.
    pub risk: Risk,
    /// The frameworks that the control belongs to.
    pub frameworks: &'a BTreeSet<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub disposition: Disposition,
    /// The `@id`s of the policies that decided: those that permit it, and those that forbade more.
    pub policies: BTreeSet<String>,
    /// Set when something could not be evaluated, so that nothing may be done.
    pub error: Option<String>,
}

/// A validated policy set.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    sha256: String,
}

impl Policies {
    /// A shipped set, loaded once.
    ///
    /// # Errors
    /// When it does not validate. A test keeps that from being released.
    pub fn shipped(name: PolicySetName) -> Result<&'static Self, PolicyError> {
        static LOADED: [OnceLock<Result<Policies, PolicyError>>; 4] = [const { OnceLock::new() }; 4];
        let load = || source(name).ok_or(PolicyError::Absent).and_then(Self::load);
        LOADED[name as usize].get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// Read and validate a set. Policy ids are the `@id` annotations.
    ///
    /// # Errors
    /// When it is not Cedar, does not fit the schema, or a policy has no `@id` of its own.
    pub fn load(source: &str) -> Result<Self, PolicyError> {
        let (schema, _warnings) =
            Schema::from_cedarschema_str(SCHEMA).map_err(|error| PolicyError::Invalid(error.to_string()))?;
        let parsed = PolicySet::from_str(source).map_err(|error| PolicyError::Parse(error.to_string()))?;
        let mut set = PolicySet::new();
        for policy in parsed.policies() {
            let id = policy.annotation("id").ok_or_else(|| PolicyError::Id(format!("one has none: {policy}")))?;
            let named: Policy = policy.new_id(PolicyId::new(id));
            set.add(named).map_err(|error| PolicyError::Id(error.to_string()))?;
        }
        let outcome = Validator::new(schema.clone()).validate(&set, ValidationMode::default());
        // A warning, too: a `forbid` that can never match is an exemption that somebody believes to have.
        let errors = outcome.validation_errors().map(ToString::to_string);
        let complaints: Vec<String> = errors.chain(outcome.validation_warnings().map(ToString::to_string)).collect();
        if !complaints.is_empty() {
            return Err(PolicyError::Invalid(complaints.join("; ")));
        }
        Ok(Self { set, schema, sha256: sha256_hex(source.as_bytes()) })
    }

    /// SHA-256 of the set's source, hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What the set says: the first of act, approve and notify that it permits, else ignore.
    ///
    /// # Errors
    /// When the question does not fit the schema. The caller must then change nothing.
    pub fn ask(&self, question: &Question<'_>) -> Result<Verdict, PolicyError> {
        let principal = match question.trigger {
            Trigger::Operator { by, .. } => uid("Analyst", by)?,
            trigger if trigger.is_manual() => uid("Analyst", kind(trigger))?,
            trigger => uid("Rule", kind(trigger))?,
        };
        let (resource, entities) = self.entities(question, &principal)?;
        let mut policies = BTreeSet::new();
        let mut error = None;
        for disposition in [Disposition::Act, Disposition::Approve, Disposition::Notify] {
            // A policy that cannot be evaluated might have been a `forbid`: then only telling is left.
            if error.is_some() && disposition != Disposition::Notify {
                continue;
            }
            let name = match disposition {
                Disposition::Act => "Act",
                Disposition::Approve => "Approve",
                Disposition::Notify | Disposition::Ignore => "Notify",
            };
            let action = uid("Action", name)?;
            let request = Request::new(
                principal.clone(),
                action.clone(),
                resource.clone(),
                self.context(question, &action)?,
                Some(&self.schema),
            )
            .map_err(|error| PolicyError::Question(error.to_string()))?;
            let answer = Authorizer::new().is_authorized(&request, &self.set, &entities);
            let deciding = answer.diagnostics().reason().map(ToString::to_string);
            let failed = answer.diagnostics().errors().next().map(ToString::to_string);
            let permitted = answer.decision() == Decision::Allow;
            policies.extend(deciding);
            match failed {
                Some(failure) if disposition != Disposition::Notify => error = Some(failure),
                _ if permitted => return Ok(Verdict { disposition, policies, error }),
                _ => {}
            }
        }
        let disposition = if error.is_some() { Disposition::Notify } else { Disposition::Ignore };
        Ok(Verdict { disposition, policies, error })
    }

    fn entities(&self, question: &Question<'_>, principal: &EntityUid) -> Result<(EntityUid, Entities), PolicyError> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let wrong = |error: &dyn std::fmt::Display| PolicyError::Question(error.to_string());
        let account = uid("Account", question.account.as_str())?;
        let resource = uid("Resource", question.arn)?;
        let attributes = HashMap::from([
            ("account".to_owned(), text(question.account.as_str())),
            ("region".to_owned(), text(question.region.as_str())),
            ("arn".to_owned(), text(question.arn)),
            ("type".to_owned(), text(question.kind)),
            ("control".to_owned(), text(question.control.as_str())),
            ("family".to_owned(), text(question.control.family())),
            ("severity".to_owned(), RestrictedExpression::new_long(question.severity.score.into())),
            ("severityLabel".to_owned(), text(question.severity.label.as_str())),
            ("risk".to_owned(), text(question.risk.as_str())),
            ("frameworks".to_owned(), RestrictedExpression::new_set(question.frameworks.iter().map(|name| text(name)))),
        ]);
        let entity =
            Entity::new(resource.clone(), attributes, HashSet::from([account.clone()])).map_err(|e| wrong(&e))?;
        let all = [entity, Entity::with_uid(account), Entity::with_uid(principal.clone())];
        let entities = Entities::from_entities(all, Some(&self.schema)).map_err(|e| wrong(&e))?;
        Ok((resource, entities))
    }

    fn context(&self, question: &Question<'_>, action: &EntityUid) -> Result<Context, PolicyError> {
        let pairs = [
            ("mode".to_owned(), RestrictedExpression::new_string(question.mode.as_str().to_owned())),
            ("pilot".to_owned(), RestrictedExpression::new_bool(question.pilot)),
        ];
        let context = Context::from_pairs(pairs).map_err(|error| PolicyError::Question(error.to_string()))?;
        context.validate(&self.schema, action).map_err(|error| PolicyError::Question(error.to_string()))?;
        Ok(context)
    }
}

/// The kind of a trigger, as policies and the ledger name it.
#[must_use]
pub const fn kind(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Config => "Config",
        Trigger::Import => "Import",
        Trigger::GuardDuty => "GuardDuty",
        Trigger::CustomAction(_) => "CustomAction",
        Trigger::Operator { .. } => "Operator",
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, PolicyError> {
    let name = EntityTypeName::from_str(&format!("Redress::{kind}"))
        .map_err(|error| PolicyError::Question(error.to_string()))?;
    Ok(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redress_common::finding::{CustomAction, SeverityLabel};

    fn person() -> Trigger {
        Trigger::CustomAction(CustomAction::Remediate)
    }

    fn operator() -> Trigger {
        Trigger::Operator { by: "arn:aws:sts::999999999999:assumed-role/Admin/jo".to_owned(), mode: Mode::Apply }
    }

    fn ask_of(policies: &Policies, trigger: &Trigger, mode: Mode, risk: Risk, control: &str, pilot: bool) -> Verdict {
        policies
            .ask(&Question {
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
            })
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
            for policy in policies.set.policies() {
                assert!(policy.id().to_string().starts_with(&format!("{}.", name.as_str())), "{}", policy.id());
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
    fn a_set_that_does_not_fit_the_schema_is_refused() {
        let tag = r#"@id("x") forbid (principal, action, resource) when { resource.hasTag("keep") };"#;
        assert!(matches!(Policies::load(tag), Err(PolicyError::Invalid(_))));
        assert!(matches!(Policies::load("permit (principal, action, resource);"), Err(PolicyError::Id(_))));
        assert!(matches!(Policies::load("permit everything"), Err(PolicyError::Parse(_))));
        let twice = r#"@id("x") permit (principal, action, resource); @id("x") forbid (principal, action, resource);"#;
        assert!(matches!(Policies::load(twice), Err(PolicyError::Id(_))));
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
}

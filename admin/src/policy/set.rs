//! A validated policy set, and asking it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    AuthorizationError, Authorizer, Effect, Policy, PolicyId, PolicySet, Request, Schema, ValidationMode, Validator,
};
use jiff::Timestamp;
use redress_common::aws::state_table::PolicySetName;
use redress_common::contract::Mode;
use redress_common::items::exemption::{Exemption, Exemptions};
use redress_common::items::policy::{MAX_SOURCE, PolicyItem};
use redress_common::ledger::sha256_hex;
use redress_common::names;
use serde_json::Value;

use super::exempt::{self, PREFIX};
use super::facts::{Fact, missing, remains, spoken_of};
use super::question::{Asked, Asker, Question};
use super::scene::Scene;
use super::source::{SCHEMA, SourceProblem, source, starts};
use super::{Disposition, Permission, PolicyError, Verdict};

/// The annotations that a policy may have. Another one is a slip, or the hope that Redress heeds it.
const ANNOTATIONS: [&str; 7] = ["id", "approvers", "four_eyes", "description", "owner", "reason", "ticket"];
/// No policy asks for more people.
const MAX_APPROVERS: u32 = 10;
/// So many combinations of exemptions and missing facts are kept ready.
const READY: usize = 16;

/// A validated policy set.
#[derive(Debug)]
pub struct Policies {
    source: Arc<str>,
    rules: Vec<Rule>,
    /// What they speak of, together.
    facts: BTreeSet<Fact>,
    sha256: String,
    ready: Mutex<Vec<Arc<Ready>>>,
}

/// A policy, and what it speaks of.
#[derive(Debug, Clone)]
struct Rule {
    policy: Policy,
    json: Value,
    facts: BTreeSet<Fact>,
}

/// The policies and the exemptions together, when certain facts are not known.
#[derive(Debug, Default)]
struct Ready {
    exemptions: Vec<Exemption>,
    missing: BTreeSet<Fact>,
    permits: PolicySet,
    forbids: PolicySet,
    /// The policies of which only remains are in the set, with the facts that they lack.
    remains: BTreeMap<String, BTreeSet<Fact>>,
}

/// What the set says about one action.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Said {
    /// Whether it is permitted, for sure.
    pub permitted: bool,
    /// The policies that determine that.
    pub policies: BTreeSet<String>,
    /// What could not be evaluated.
    pub error: Option<String>,
    /// For want of which facts.
    pub missing: BTreeSet<Fact>,
}

/// A verdict, and what every action said on the way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// On `Act`.
    pub act: Said,
    /// On `Approve`.
    pub approve: Said,
    /// On `Notify`.
    pub notify: Said,
}

/// What no policy set may say: that something is destroyed which no person asked for, or which nobody else approves. The
/// sets of operators are held to it as well as the shipped ones.
fn bounded(asked: &Asked, verdict: Verdict) -> Verdict {
    let destroys = asked.mode == Mode::Apply && asked.control.family() == names::DESTROY;
    if !destroys || verdict.disposition < Disposition::Approve {
        return verdict;
    }
    let is_known = asked.trigger == "Operator";
    match (verdict.disposition, &asked.by) {
        // Where nobody knows who asked, two others answer.
        (Disposition::Approve, Asker::Analyst(_)) => {
            Verdict { approvers: verdict.approvers.max(if is_known { 1 } else { 2 }), four_eyes: true, ..verdict }
        }
        _ => Verdict {
            disposition: Disposition::Notify,
            approvers: 0,
            four_eyes: false,
            error: Some(ALONE.to_owned()),
            ..verdict
        },
    }
}

/// Why [`bounded`] lets people be told only.
const ALONE: &str = "a control of family `Destroy` is done only when a person asks and another one approves, whatever the policy \
                     set says; let it permit `Approve` to analysts";

fn schema() -> Result<&'static Schema, PolicyError> {
    static LOADED: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
        Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema).map_err(|error| error.to_string())
    });
    let refused = |why: &String| PolicyError::Refused(vec![SourceProblem::whole(why.clone())]);
    LOADED.as_ref().map_err(refused)
}

fn shipped(name: PolicySetName) -> Result<&'static Arc<Policies>, PolicyError> {
    static LOADED: [OnceLock<Result<Arc<Policies>, PolicyError>>; 4] = [const { OnceLock::new() }; 4];
    let load = || source(name).ok_or(PolicyError::Absent).and_then(Policies::load).map(Arc::new);
    LOADED[name as usize].get_or_init(load).as_ref().map_err(Clone::clone)
}

impl Policies {
    /// A shipped set, loaded once.
    ///
    /// # Errors
    /// When it does not validate. A test keeps that from being released.
    pub fn shipped(name: PolicySetName) -> Result<&'static Self, PolicyError> {
        shipped(name).map(|policies| &**policies)
    }

    /// The set that is in force: the shipped one of that name, or the operators' own, validated once.
    ///
    /// # Errors
    /// When there is none, its hash is not the one that is stored with it, or it does not validate. The caller must then
    /// change nothing.
    pub fn in_force(name: PolicySetName, own: Option<&PolicyItem>) -> Result<Arc<Self>, PolicyError> {
        static LAST: Mutex<Option<Arc<Policies>>> = Mutex::new(None);
        if name != PolicySetName::Custom {
            return shipped(name).cloned();
        }
        let item = own.ok_or(PolicyError::Absent)?;
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = last.as_ref().filter(|last| last.sha256 == item.sha256 && *last.source == *item.source) {
            return Ok(same.clone());
        }
        let loaded = Arc::new(Self::load(&item.source)?);
        if loaded.sha256 != item.sha256 {
            let problem = "its SHA-256 is not the one that is stored with it; `redress policy set` stores it anew";
            return Err(PolicyError::Refused(vec![SourceProblem::whole(problem)]));
        }
        *last = Some(loaded.clone());
        Ok(loaded)
    }

    /// Read and validate a set. Policy ids are the `@id` annotations.
    ///
    /// # Errors
    /// All that is wrong with it, and where: it is not Cedar, does not fit the schema, a policy has no `@id` of its own.
    pub fn load(source: &str) -> Result<Self, PolicyError> {
        if source.len() > MAX_SOURCE {
            let problem = format!("it has {} bytes; no more than {MAX_SOURCE} fit into the table", source.len());
            return Err(PolicyError::Refused(vec![SourceProblem::whole(problem)]));
        }
        let schema = schema()?;
        let parsed = PolicySet::from_str(source)
            .map_err(|error| PolicyError::Refused(SourceProblem::of_cedar(source, DetailedError::from(&error))))?;
        let mut problems = Vec::new();
        if parsed.templates().next().is_some() {
            problems.push(SourceProblem::whole("a policy has a slot; templates are not supported, write the value"));
        }
        let begins = starts(source);
        let mut set = PolicySet::new();
        for (index, begin) in begins.iter().enumerate() {
            // So the parser names them, in the order of the text.
            let Some(policy) = parsed.policy(&PolicyId::new(format!("policy{index}"))) else { continue };
            let mut problem = |message: String, help: &str| {
                problems.push(SourceProblem::at(source, *begin, message, help));
            };
            check_annotations(policy, &mut problem);
            let Some(id) = policy.annotation("id") else {
                problem(
                    "the policy has no `@id`".to_owned(),
                    "put `@id(\"a-name\")` before it: the ledger names policies by it",
                );
                continue;
            };
            if !exempt::is_id(id) || id.starts_with(PREFIX) {
                problem(
                    format!("`{id}` cannot be an `@id`"),
                    "letters, digits, dots, hyphens and underscores, at most 128; `exemption.` is for exemptions",
                );
            } else if set.add(policy.new_id(PolicyId::new(id))).is_err() {
                problem(format!("another policy has the `@id` `{id}`"), "give every policy one of its own");
            }
        }
        let outcome = Validator::new(schema.clone()).validate(&parsed, ValidationMode::default());
        // A warning, too: a `forbid` that can never match is an exemption that somebody believes to have.
        let errors = outcome.validation_errors().map(DetailedError::from);
        let said = errors.chain(outcome.validation_warnings().map(DetailedError::from));
        let mut said: Vec<_> = said.flat_map(|error| SourceProblem::of_cedar(source, error)).collect();
        // The same is said for every kind of principal and every action.
        said.sort_by_key(SourceProblem::place);
        said.dedup_by_key(|problem| problem.place());
        problems.extend(said);
        if problems.is_empty() && set.policies().count() != parsed.policies().count() {
            problems.push(SourceProblem::whole(
                "not every policy of it could be told from the others; this is a fault of Redress",
            ));
        }
        if !problems.is_empty() {
            problems.sort_by_key(SourceProblem::place);
            return Err(PolicyError::Refused(problems));
        }
        let rules = set.policies().map(Rule::of).collect::<Result<Vec<_>, _>>()?;
        let facts = rules.iter().flat_map(|rule| &rule.facts).copied().collect();
        Ok(Self { source: source.into(), rules, facts, sha256: sha256_hex(source.as_bytes()), ready: Mutex::default() })
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the set's source, hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The ids of the policies.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.rules.iter().map(|rule| rule.policy.id().to_string())
    }

    /// The facts that the set and these exemptions speak of.
    #[must_use]
    pub fn needs(&self, exemptions: &Exemptions) -> BTreeSet<Fact> {
        let mut facts = self.facts.clone();
        if exemptions.exemptions.iter().any(|exemption| exemption.ou.is_some()) {
            facts.insert(Fact::AccountPlace);
        }
        facts
    }

    /// Whether they speak of what Organizations knows of the account.
    #[must_use]
    pub fn needs_account(&self, exemptions: &Exemptions) -> bool {
        self.needs(exemptions).iter().any(|fact| Fact::OF_ACCOUNT.contains(fact))
    }

    /// Whether the set speaks of what the guard finds out. It may still not matter for a finding: ask without it
    /// first, and look at [`Verdict::missing`].
    #[must_use]
    pub fn needs_evidence(&self) -> bool {
        self.needs(&Exemptions::default()).iter().any(|fact| Fact::OF_GUARD.contains(fact))
    }

    /// Whether the set speaks of change calendars.
    #[must_use]
    pub fn needs_calendar(&self) -> bool {
        self.needs(&Exemptions::default()).contains(&Fact::Calendar)
    }

    /// What the set says: the first of act, approve and notify that it permits, else ignore.
    ///
    /// # Errors
    /// When the question does not fit the schema, or an exemption cannot be read. The caller must then change nothing.
    pub fn ask(&self, question: &Question<'_>, exemptions: &Exemptions) -> Result<Verdict, PolicyError> {
        self.ask_again(&Asked::from(question), exemptions)
    }

    /// The same, of a question that was asked before.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_again(&self, asked: &Asked, exemptions: &Exemptions) -> Result<Verdict, PolicyError> {
        let ready = self.ready(asked, exemptions)?;
        let scene = Scene::of(asked, schema()?)?;
        let act = ready.say(&scene.request("Act")?, &scene);
        // What cannot be evaluated might have been a `forbid`: then only telling is left.
        let further = !act.permitted && act.error.is_none();
        let approve = if further { Some(ready.say(&scene.request("Approve")?, &scene)) } else { None };
        let told = !act.permitted && approve.as_ref().is_none_or(|approve| !approve.permitted);
        let notify = if told { Some(ready.say(&scene.request("Notify")?, &scene)) } else { None };
        Ok(bounded(asked, self.verdict(&act, approve.as_ref(), notify.as_ref())))
    }

    /// The same, with what every action said.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn explain(&self, asked: &Asked, exemptions: &Exemptions) -> Result<Explanation, PolicyError> {
        let verdict = self.ask_again(asked, exemptions)?;
        let ready = self.ready(asked, exemptions)?;
        let scene = Scene::of(asked, schema()?)?;
        let say = |action: &str| Ok::<Said, PolicyError>(ready.say(&scene.request(action)?, &scene));
        Ok(Explanation { verdict, act: say("Act")?, approve: say("Approve")?, notify: say("Notify")? })
    }

    /// Whether this person may say yes to what was asked. A no needs nobody's leave.
    ///
    /// # Errors
    /// As [`Self::ask`]. The answer must then not count.
    pub fn may_answer(
        &self,
        approver: &str,
        asked: &Asked,
        exemptions: &Exemptions,
        now: Timestamp,
    ) -> Result<Permission, PolicyError> {
        let ready = self.ready(asked, exemptions)?;
        let scene = Scene::of(asked, schema()?)?;
        let Said { permitted, policies, error, .. } = ready.say(&scene.answer(approver, now)?, &scene);
        Ok(Permission { permitted: permitted && error.is_none(), policies, error })
    }

    fn verdict(&self, act: &Said, approve: Option<&Said>, notify: Option<&Said>) -> Verdict {
        let asked = [Some(act), approve, notify];
        let said = || asked.iter().flatten();
        let error = said().find_map(|said| said.error.clone());
        let disposition = if error.is_some() {
            Disposition::Notify
        } else if act.permitted {
            Disposition::Act
        } else if approve.is_some_and(|said| said.permitted) {
            Disposition::Approve
        } else if notify.is_some_and(|said| said.permitted) {
            Disposition::Notify
        } else {
            Disposition::Ignore
        };
        let policies: BTreeSet<String> = said().flat_map(|said| said.policies.iter().cloned()).collect();
        let exemption = policies.iter().find_map(|id| id.strip_prefix(PREFIX)).map(str::to_owned);
        let (approvers, four_eyes) = match approve {
            Some(said) if disposition == Disposition::Approve => self.people(&said.policies),
            _ => (0, false),
        };
        let missing = said().flat_map(|said| said.missing.iter().copied()).collect();
        Verdict { disposition, policies, approvers, four_eyes, exemption, error, missing }
    }

    /// How many people must say yes, and whether who asked may be one: the strictest of these policies.
    fn people(&self, ids: &BTreeSet<String>) -> (u32, bool) {
        let asking =
            self.rules.iter().map(|rule| &rule.policy).filter(|policy| ids.contains(policy.id().as_ref() as &str));
        asking.fold((1, false), |(approvers, four_eyes), policy| {
            let more = policy.annotation("approvers").and_then(|number| number.parse().ok()).unwrap_or(1);
            (approvers.max(more), four_eyes || policy.annotation("four_eyes") == Some("true"))
        })
    }

    /// The policies for that question, made ready once for each combination that occurs.
    fn ready(&self, asked: &Asked, exemptions: &Exemptions) -> Result<Arc<Ready>, PolicyError> {
        let exemptions = exempt::about(asked, exemptions)?;
        let mut missing = missing(asked);
        let place = exemptions.iter().any(|exemption| exemption.ou.is_some()).then_some(Fact::AccountPlace);
        missing.retain(|fact| self.facts.contains(fact) || place == Some(*fact));
        let same =
            |ready: &&Arc<Ready>| ready.missing == missing && ready.exemptions.iter().eq(exemptions.iter().copied());
        let mut at_hand = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = at_hand.iter().find(same) {
            return Ok(ready.clone());
        }
        let kept = exemptions.iter().map(|exemption| (*exemption).clone()).collect();
        let mut made = Ready { exemptions: kept, missing, ..Ready::default() };
        let forbids = exemptions.into_iter().map(|exemption| {
            let (policy, json) = exempt::forbid(exemption)?;
            Ok(Rule { facts: spoken_of(&json), policy, json })
        });
        for rule in self.rules.iter().cloned().map(Ok).chain(forbids) {
            made.add(rule?)?;
        }
        let made = Arc::new(made);
        at_hand.truncate(READY - 1);
        at_hand.insert(0, made.clone());
        Ok(made)
    }
}

impl Rule {
    fn of(policy: &Policy) -> Result<Self, PolicyError> {
        let json =
            policy.to_json().map_err(|error| PolicyError::Refused(vec![SourceProblem::whole(error.to_string())]))?;
        Ok(Self { facts: spoken_of(&json), policy: policy.clone(), json })
    }
}

impl Ready {
    fn add(&mut self, rule: Rule) -> Result<(), PolicyError> {
        let wrong = |why: String| PolicyError::Question(format!("policy `{}`: {why}", rule.policy.id()));
        let lacks: BTreeSet<Fact> = rule.facts.intersection(&self.missing).copied().collect();
        let policy = if lacks.is_empty() {
            rule.policy.clone()
        } else {
            let id = rule.policy.id().clone();
            let left = remains(rule.json.clone(), &lacks);
            self.remains.insert(id.to_string(), lacks);
            Policy::from_json(Some(id), left).map_err(|error| wrong(error.to_string()))?
        };
        let id = policy.id().to_string();
        let half = if policy.effect() == Effect::Permit { &mut self.permits } else { &mut self.forbids };
        half.add(policy).map_err(|error| match id.strip_prefix(PREFIX) {
            Some(id) => PolicyError::Exemption { id: id.to_owned(), why: "two have this name".to_owned() },
            None => wrong(error.to_string()),
        })
    }

    fn say(&self, request: &Request, scene: &Scene<'_>) -> Said {
        let mut said = Said { permitted: false, policies: BTreeSet::new(), error: None, missing: BTreeSet::new() };
        let permits = self.found(&self.permits, request, scene);
        if permits.is_empty() {
            return said;
        }
        let forbids = self.found(&self.forbids, request, scene);
        let names = |found: &[&Found]| found.iter().map(|found| found.id.clone()).collect();
        let (sure_permits, may_permit) = permits.iter().partition::<Vec<&Found>, _>(|found| found.doubt.is_none());
        let (sure_forbids, may_forbid) = forbids.iter().partition::<Vec<&Found>, _>(|found| found.doubt.is_none());
        let doubtful = if !sure_forbids.is_empty() {
            said.policies = names(&sure_forbids);
            return said;
        } else if !may_forbid.is_empty() {
            may_forbid
        } else if sure_permits.is_empty() {
            may_permit
        } else {
            said.permitted = true;
            // Who asks for more people counts also when it is not sure that it applies.
            said.policies = permits.iter().map(|found| found.id.clone()).collect();
            return said;
        };
        said.policies = names(&doubtful);
        said.missing = doubtful.iter().filter_map(|found| self.remains.get(&found.id)).flatten().copied().collect();
        let doubts: Vec<&str> = doubtful.iter().filter_map(|found| found.doubt.as_deref()).collect();
        said.error = Some(doubts.join("; "));
        said
    }

    /// The policies of a half that apply or may apply.
    fn found(&self, half: &PolicySet, request: &Request, scene: &Scene<'_>) -> Vec<Found> {
        let answer = Authorizer::new().is_authorized(request, half, &scene.entities);
        let doubt = |id: &String| {
            let facts: Vec<&str> = self.remains.get(id)?.iter().map(|fact| fact.as_str()).collect();
            Some(format!("policy `{id}` depends on {}, not known here", facts.join(", ")))
        };
        let applies = answer.diagnostics().reason().map(|id| {
            let id = id.to_string();
            Found { doubt: doubt(&id), id }
        });
        let failed = answer.diagnostics().errors().map(|error| {
            let AuthorizationError::PolicyEvaluationError(failure) = error;
            let id = failure.policy_id().to_string();
            Found { doubt: doubt(&id).or_else(|| Some(error.to_string())), id }
        });
        applies.chain(failed).collect()
    }
}

/// A policy that applies, for sure or perhaps.
struct Found {
    id: String,
    /// Why that is not sure.
    doubt: Option<String>,
}

fn check_annotations(policy: &Policy, problem: &mut impl FnMut(String, &str)) {
    for (name, value) in policy.annotations() {
        match name {
            "approvers" if !value.parse().is_ok_and(|number| (1..=MAX_APPROVERS).contains(&number)) => {
                problem(
                    format!("`@approvers(\"{value}\")` is no number of people"),
                    "a number from 1 to 10, in quotes",
                );
            }
            "four_eyes" if !["true", "false"].contains(&value) => {
                problem(format!("`@four_eyes(\"{value}\")` is neither yes nor no"), "`true` or `false`, in quotes");
            }
            "approvers" | "four_eyes" if policy.effect() == Effect::Forbid => {
                problem(format!("`@{name}` on a `forbid` has no effect"), "put it on the `permit` of `Approve`");
            }
            known if ANNOTATIONS.contains(&known) => {}
            other => problem(
                format!("`@{other}` is no annotation that Redress knows"),
                "id, approvers, four_eyes, description, owner, reason, ticket",
            ),
        }
    }
}

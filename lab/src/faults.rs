//! What goes wrong on purpose: rules that a test adds to a running lab, and which call each of them struck.
//!
//! Rules are data. The gateway shows every call to [`Faults::verdict`] and does what the [`Hit`] says before and
//! after the call is performed. Nothing here knows HTTP, and without rules nothing here happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::lambda::process::Process;
use crate::service::AwsError;

mod deliveries;

pub(crate) use deliveries::Batch;
pub use deliveries::Deliveries;

/// A side of the moment at which a call takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// It has happened, and the caller does not know yet.
    After,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Refused with the error by which the service throttles.
    Throttle,
    /// Refused with this error.
    Fail {
        /// HTTP status.
        status: u16,
        /// AWS's error code.
        code: String,
    },
    /// Performed so much later.
    Delay(Duration),
    /// Performed; the connection is cut instead of an answer.
    LoseAnswer,
    /// The process that calls is killed; the call is not performed.
    KillBefore,
    /// Performed; then the process that called is killed.
    KillAfter,
    /// Before or after it is performed the call hangs until [`Faults::release`], and the process that calls stands still.
    Freeze(Moment),
}

/// Which calls go wrong, and how. It strikes the first matching call once, unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    by: Option<String>,
    service: Option<String>,
    operation: Option<String>,
    account: Option<String>,
    containing: Vec<String>,
    first: u64,
    times: u64,
    retries: bool,
}

impl Rule {
    /// A rule for every call; the other methods narrow it.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            by: None,
            service: None,
            operation: None,
            account: None,
            containing: Vec::new(),
            first: 1,
            times: 1,
            retries: false,
        }
    }

    /// Calls of this operation, by the names that the record uses: `ssm`, `StartAutomationExecution`.
    #[must_use]
    pub fn on(self, service: &str, operation: &str) -> Self {
        self.on_operation(operation).on_service(service)
    }

    /// Calls of this operation, whichever service has it.
    #[must_use]
    pub fn on_operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Calls of this service.
    #[must_use]
    pub fn on_service(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// Calls by a role of this name, whoever holds a session of it; or by a function of this name: by its own
    /// process, with its role's session or with one that it got by assuming another role.
    #[must_use]
    pub fn by(mut self, role_or_function: &str) -> Self {
        self.by = Some(role_or_function.to_owned());
        self
    }

    /// Calls with a session of this account.
    #[must_use]
    pub fn in_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    /// Calls that have this text in path, query or body. All texts must be in, when there are several.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.containing.push(text.to_owned());
        self
    }

    /// From the `nth` matching call on, counted from 1 and from when the rule was added.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.first = nth;
        self
    }

    /// So many calls.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Every matching call.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// The SDK's further attempts of a struck call are struck, too. Otherwise the second attempt goes through.
    #[must_use]
    pub fn and_retries(mut self) -> Self {
        self.retries = true;
        self
    }

    fn matches(&self, call: &Seen) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        let by = |name: &String| call.function() == Some(name) || role(&call.principal) == Some(name);
        is(&self.service, &call.service)
            && is(&self.operation, &call.operation)
            && is(&self.account, &call.account)
            && self.by.as_ref().is_none_or(by)
            && self.containing.iter().all(|text| call.text.contains(text))
            && (call.process.is_some() || !matches!(self.action, Action::KillBefore | Action::KillAfter))
    }
}

/// A rule of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleId(u64);

/// A rule that struck a call.
#[derive(Debug, Clone, Serialize)]
pub struct Fired {
    /// Which rule.
    pub rule: RuleId,
    /// What it did.
    pub action: Action,
    /// When.
    pub at: Timestamp,
    /// The function whose process called, if one did.
    pub function: Option<String>,
    /// That process.
    pub pid: Option<u32>,
    /// The caller's ARN.
    pub principal: String,
    /// The caller's account.
    pub account: String,
    /// The service called.
    pub service: String,
    /// The operation called.
    pub operation: String,
    /// Which of the rule's matching calls it was, from 1.
    pub nth: u64,
    /// The SDK's attempt at this call, from 1.
    pub attempt: u32,
}

/// The faults of a lab.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Rules>,
    fired: watch::Sender<Vec<Fired>>,
}

#[derive(Debug, Default)]
struct Rules {
    added: u64,
    armed: Vec<Armed>,
}

/// A rule and what it has seen.
#[derive(Debug)]
struct Armed {
    id: RuleId,
    rule: Rule,
    calls: u64,
    /// The number of each call that an SDK may attempt again.
    attempted: HashMap<String, u64>,
    released: watch::Sender<bool>,
}

/// A call, as far as rules look at it.
pub(crate) struct Seen {
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) principal: String,
    pub(crate) account: String,
    pub(crate) service: String,
    pub(crate) operation: String,
    /// Path, query and body.
    pub(crate) text: String,
    /// What the SDK calls all attempts of one call; empty for other clients.
    pub(crate) invocation: String,
    pub(crate) attempt: u32,
}

/// A call that a rule struck.
pub(crate) struct Hit {
    pub(crate) rule: RuleId,
    pub(crate) action: Action,
    call: Seen,
    released: watch::Receiver<bool>,
}

/// How a call goes on.
pub(crate) enum Step {
    Go,
    Refuse(AwsError),
    Cut,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rules: Mutex::default(), fired: watch::channel(Vec::new()).0 }
    }
}

impl Faults {
    /// Adds a rule. Of several that fit a call, the one added first strikes it; each counts it.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.rules();
        rules.added += 1;
        let id = RuleId(rules.added);
        let (calls, attempted, released) = (0, HashMap::new(), watch::channel(false).0);
        rules.armed.push(Armed { id, rule, calls, attempted, released });
        id
    }

    /// Takes a rule away, and lets go what it holds.
    pub fn remove(&self, rule: RuleId) {
        self.rules().armed.retain(|armed| armed.id != rule);
    }

    /// Takes every rule away. What fired stays noted.
    pub fn clear(&self) {
        self.rules().armed.clear();
    }

    /// Lets go what a [`Action::Freeze`] holds; it freezes nothing any more.
    pub fn release(&self, rule: RuleId) {
        for armed in self.rules().armed.iter().filter(|armed| armed.id == rule) {
            armed.released.send_replace(true);
        }
    }

    /// What fired, in order.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.fired.borrow().clone()
    }

    /// Waits until a rule has fired, and says on which call first.
    pub async fn struck(&self, rule: RuleId) -> Fired {
        let mut fired = self.fired.subscribe();
        loop {
            if let Some(first) = fired.borrow_and_update().iter().find(|fired| fired.rule == rule) {
                return first.clone();
            }
            if fired.changed().await.is_err() {
                // The sender is a part of `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether any rule may be about this service: without one, nobody needs to look at its calls.
    pub(crate) fn watches(&self, service: &str) -> bool {
        self.rules().armed.iter().any(|armed| armed.rule.service.as_deref().is_none_or(|asked| asked == service))
    }

    /// What goes wrong with this call.
    pub(crate) fn verdict(&self, call: Seen) -> Option<Hit> {
        let mut rules = self.rules();
        let mut struck = None;
        for armed in rules.armed.iter_mut().filter(|armed| armed.rule.matches(&call)) {
            if let Some(nth) = armed.strikes(&call)
                && struck.is_none()
            {
                struck = Some((armed.id, armed.rule.action.clone(), armed.released.subscribe(), nth));
            }
        }
        drop(rules);
        let (rule, action, released, nth) = struck?;
        let noted = Fired {
            rule,
            action: action.clone(),
            at: Timestamp::now(),
            function: call.function().map(str::to_owned),
            pid: call.process.as_ref().and_then(|process| process.pid),
            principal: call.principal.clone(),
            account: call.account.clone(),
            service: call.service.clone(),
            operation: call.operation.clone(),
            nth,
            attempt: call.attempt,
        };
        self.fired.send_modify(|fired| fired.push(noted));
        Some(Hit { rule, action, call, released })
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    /// Counts a matching call; its number, if it is to be struck.
    fn strikes(&mut self, call: &Seen) -> Option<u64> {
        let nth = match self.attempted.get(&call.invocation) {
            Some(_) if !self.rule.retries => return None,
            Some(nth) => *nth,
            None => {
                self.calls += 1;
                if !call.invocation.is_empty() {
                    self.attempted.insert(call.invocation.clone(), self.calls);
                }
                self.calls
            }
        };
        let since = nth.checked_sub(self.rule.first)?;
        (since < self.rule.times && !*self.released.borrow()).then_some(nth)
    }
}

impl Seen {
    fn function(&self) -> Option<&str> {
        self.process.as_ref().map(|process| process.function.as_str())
    }
}

impl Hit {
    /// Does what the rule says of this moment.
    pub(crate) async fn at(&self, moment: Moment) -> Step {
        match (&self.action, moment) {
            (Action::Throttle, Moment::Before) => Step::Refuse(throttling(&self.call.service)),
            (Action::Fail { status, code }, Moment::Before) => Step::Refuse(AwsError {
                status: *status,
                code: code.clone(),
                message: "the lab was told so".to_owned(),
            }),
            (Action::Delay(duration), Moment::Before) => {
                tokio::time::sleep(*duration).await;
                Step::Go
            }
            (Action::LoseAnswer, Moment::After) => Step::Cut,
            (Action::KillBefore, Moment::Before) | (Action::KillAfter, Moment::After) => {
                if let Some(process) = &self.call.process {
                    process.kill().await;
                }
                Step::Cut
            }
            (Action::Freeze(when), now) if *when == now => {
                self.freeze().await;
                Step::Go
            }
            _ => Step::Go,
        }
    }

    async fn freeze(&self) {
        if let Some(process) = &self.call.process {
            process.freeze().await;
        }
        // An error is a rule that was taken away: nobody can release it any more.
        let released = self.released.clone().wait_for(|released| *released).await.is_ok();
        tracing::debug!(rule = self.rule.0, released, "a frozen call goes on");
        if let Some(process) = &self.call.process {
            process.thaw().await;
        }
    }
}

/// `assumed-role/<role>/<session>`.
fn role(principal: &str) -> Option<&str> {
    principal.split_once(":assumed-role/")?.1.split('/').next()
}

/// The error by which each service tells a caller to slow down.
fn throttling(service: &str) -> AwsError {
    let (status, code) = match service {
        "s3" => (503, "SlowDown"),
        "ec2" => (503, "RequestLimitExceeded"),
        "lambda" => (429, "TooManyRequestsException"),
        "securityhub" => (429, "LimitExceededException"),
        "sns" => (429, "Throttled"),
        "sqs" => (400, "RequestThrottled"),
        "cloudformation" | "iam" | "sts" => (400, "Throttling"),
        _ => (400, "ThrottlingException"),
    };
    AwsError { status, code: code.to_owned(), message: "Rate exceeded".to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn call(operation: &str, invocation: &str) -> Seen {
        Seen {
            process: None,
            principal: "arn:aws:sts::111122223333:assumed-role/Redress-Control/x".to_owned(),
            account: "111122223333".to_owned(),
            service: "s3".to_owned(),
            operation: operation.to_owned(),
            text: "/bucket-one?publicAccessBlock".to_owned(),
            invocation: invocation.to_owned(),
            attempt: 1,
        }
    }

    fn numbers(faults: &Faults) -> Vec<u64> {
        faults.fired().iter().map(|fired| fired.nth).collect()
    }

    #[test]
    fn a_rule_strikes_the_first_matching_call_once() {
        let faults = Faults::default();
        faults.add(
            Rule::new(Action::Throttle).on("s3", "PutPublicAccessBlock").by("Redress-Control").containing("bucket-one"),
        );
        assert!(faults.verdict(call("GetPublicAccessBlock", "")).is_none());
        assert!(faults.verdict(call("PutPublicAccessBlock", "")).is_some());
        assert!(faults.verdict(call("PutPublicAccessBlock", "")).is_none());
        assert_eq!(numbers(&faults), [1]);
    }

    #[test]
    fn nth_and_times_choose_a_stretch_of_the_matching_calls() {
        let faults = Faults::default();
        let rule = faults.add(Rule::new(Action::LoseAnswer).nth(2).times(2));
        for _ in 0..5 {
            faults.verdict(call("HeadObject", ""));
        }
        assert_eq!(numbers(&faults), [2, 3]);
        faults.remove(rule);
        faults.add(Rule::new(Action::LoseAnswer).nth(2).always());
        for _ in 0..4 {
            faults.verdict(call("HeadObject", ""));
        }
        assert_eq!(numbers(&faults), [2, 3, 2, 3, 4]);
    }

    #[test]
    fn attempts_of_one_call_count_once_and_are_struck_only_when_the_rule_says_so() {
        let faults = Faults::default();
        let rule = faults.add(Rule::new(Action::Throttle));
        assert!(faults.verdict(call("HeadObject", "a")).is_some());
        assert!(faults.verdict(call("HeadObject", "a")).is_none());
        faults.remove(rule);
        faults.add(Rule::new(Action::Throttle).nth(2).and_retries());
        for (invocation, struck) in [("a", false), ("a", false), ("b", true), ("b", true), ("c", false), ("b", true)] {
            assert_eq!(faults.verdict(call("HeadObject", invocation)).is_some(), struck, "{invocation}");
        }
    }

    #[test]
    fn every_part_of_a_rule_must_fit() {
        let rule = || Rule::new(Action::Throttle);
        for other in [
            rule().on_service("ec2"),
            rule().on("s3", "HeadObject"),
            rule().by("Redress"),
            rule().in_account("444455556666"),
            rule().containing("bucket-one").containing("bucket-two"),
            Rule::new(Action::KillBefore),
        ] {
            assert!(!other.matches(&call("PutObject", "")), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_released_freeze_lets_go_and_freezes_no_more() {
        let faults = Faults::default();
        let rule = faults.add(Rule::new(Action::Freeze(Moment::After)).always());
        let hit = faults.verdict(call("PutObject", "")).unwrap();
        assert!(matches!(hit.at(Moment::Before).await, Step::Go));
        let held = tokio::spawn(async move { hit.at(Moment::After).await });
        assert_eq!(faults.struck(rule).await.operation, "PutObject");
        faults.release(rule);
        assert!(matches!(held.await.unwrap(), Step::Go));
        assert!(faults.verdict(call("PutObject", "")).is_none());
    }
}

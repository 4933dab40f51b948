//! Rules with a schedule: fired when somebody asks, and, where the lab is to live like an account, by the clock.
//!
//! A rate counts from when the lab first sees the rule; cron expressions are read in UTC, as
//! EventBridge reads a rule's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Events, event};
use crate::service::AwsError;

const TICK: Duration = Duration::from_secs(5);
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// When a rule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Schedule {
    /// Every so many seconds.
    Rate(i64),
    /// Minutes, hours, days of the month, months, days of the week, years; `None` is any.
    Cron([Option<Vec<u16>>; 6]),
}

/// A scheduled rule and when it fires next.
struct Planned {
    expression: String,
    schedule: Schedule,
    next: i64,
}

impl Events {
    /// Fires a rule of an account's default bus as its schedule would, and waits until its targets have accepted the
    /// event. The event's id.
    pub(crate) async fn fire(self: &Arc<Self>, account: &str, rule: &str) -> Result<String, AwsError> {
        for (_, region) in self.shared.scopes().into_iter().filter(|(owner, _)| owner == account) {
            let described =
                self.shared.authority.look(account, &region, "events", "DescribeRule", json!({ "Name": rule })).await;
            let Ok(described) = described else { continue };
            if described["ScheduleExpression"].as_str().is_none_or(str::is_empty) || described["State"] != "ENABLED" {
                let message = format!("the rule {rule} of account {account} has no schedule or is disabled");
                return Err(AwsError::new("ValidationException", message));
            }
            return self.fire_in(account, &region, &described).await;
        }
        Err(AwsError::new("ResourceNotFoundException", format!("Rule {rule} does not exist in account {account}.")))
    }

    async fn fire_in(self: &Arc<Self>, account: &str, region: &str, rule: &Value) -> Result<String, AwsError> {
        let arn = rule["Arn"].as_str().unwrap_or_default();
        let mut found = self
            .shared
            .authority
            .look(account, region, "events", "ListTargetsByRule", json!({ "Rule": rule["Name"] }))
            .await?;
        let id = uuid::Uuid::new_v4().to_string();
        let event = event(&id, account, region, "aws.events", "Scheduled Event", &json!([arn]), json!({}));
        let mut deliveries = JoinSet::new();
        if let Value::Array(targets) = found["Targets"].take() {
            for target in targets {
                let (events, arn, event) = (self.clone(), arn.to_owned(), event.clone());
                deliveries.spawn(async move { events.deliver(&arn, &target, &event, 0).await });
            }
        }
        while deliveries.join_next().await.is_some() {}
        Ok(id)
    }

    /// Fires every account's rules by the clock, until it is dropped.
    pub(crate) async fn run_schedules(self: Arc<Self>) {
        let mut planned: HashMap<String, Planned> = HashMap::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Timestamp::now().as_second();
            let mut seen = HashMap::new();
            for (account, region) in self.shared.scopes() {
                for rule in self.scheduled(&account, &region).await {
                    let (arn, expression) = (rule["Arn"].to_string(), rule["ScheduleExpression"].to_string());
                    let known = planned.remove(&arn).filter(|known| known.expression == expression);
                    let Some(mut plan) = known.or_else(|| Planned::new(&rule, expression, now)) else { continue };
                    if plan.next <= now {
                        plan.next = plan.schedule.after(now);
                        if let Err(error) = self.fire_in(&account, &region, &rule).await {
                            tracing::warn!(arn, %error, "a schedule did not fire");
                        }
                    }
                    seen.insert(arn, plan);
                }
            }
            planned = seen;
        }
    }

    async fn scheduled(&self, account: &str, region: &str) -> Vec<Value> {
        let mut listed = match self.shared.authority.look(account, region, "events", "ListRules", json!({})).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(account, region, %error, "rules cannot be listed");
                return Vec::new();
            }
        };
        let Value::Array(rules) = listed["Rules"].take() else { return Vec::new() };
        let due = |rule: &Value| {
            rule["State"] == "ENABLED" && rule["ScheduleExpression"].as_str().is_some_and(|text| !text.is_empty())
        };
        rules.into_iter().filter(due).collect()
    }
}

impl Planned {
    fn new(rule: &Value, expression: String, now: i64) -> Option<Self> {
        let schedule = Schedule::parse(rule["ScheduleExpression"].as_str()?);
        if schedule.is_none() {
            tracing::warn!(expression, "the lab does not understand this schedule");
        }
        let schedule = schedule?;
        let next = schedule.after(now);
        Some(Self { expression, schedule, next })
    }
}

impl Schedule {
    /// `rate(5 minutes)` or `cron(0 6 ? * MON-FRI *)`.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.trim().split_once('(')?;
        let fields: Vec<&str> = rest.strip_suffix(')')?.split_whitespace().collect();
        match (kind, fields.as_slice()) {
            ("rate", [count, unit]) => {
                let seconds = match unit.strip_suffix('s').unwrap_or(unit) {
                    "minute" => 60,
                    "hour" => 3_600,
                    "day" => 86_400,
                    _ => return None,
                };
                count.parse().ok().filter(|count| *count > 0).map(|count: i64| Self::Rate(count * seconds))
            }
            ("cron", [minute, hour, day, month, weekday, year]) => Some(Self::Cron([
                field(minute, 0, 59, &[])?,
                field(hour, 0, 23, &[])?,
                field(day, 1, 31, &[])?,
                field(month, 1, 12, &MONTHS)?,
                field(weekday, 1, 7, &DAYS)?,
                field(year, 1970, 2199, &[])?,
            ])),
            _ => None,
        }
    }

    /// The next time after a second, in seconds.
    fn after(&self, now: i64) -> i64 {
        const A_YEAR_OF_MINUTES: i64 = 366 * 24 * 60;
        match self {
            Self::Rate(seconds) => now + seconds,
            Self::Cron(fields) => {
                let first = now - now.rem_euclid(60) + 60;
                let minutes = (0..A_YEAR_OF_MINUTES).map(|count| first + 60 * count);
                minutes.into_iter().find(|at| fires(fields, *at)).unwrap_or(i64::MAX)
            }
        }
    }
}

fn fires(fields: &[Option<Vec<u16>>; 6], second: i64) -> bool {
    let Ok(at) = Timestamp::from_second(second) else { return false };
    let at = at.to_zoned(TimeZone::UTC);
    let number = |value: i8| u16::try_from(value).unwrap_or_default();
    let weekday = number(at.weekday().since(Weekday::Sunday)) + 1;
    let year = u16::try_from(at.year()).unwrap_or_default();
    let values = [number(at.minute()), number(at.hour()), number(at.day()), number(at.month()), weekday, year];
    fields.iter().zip(values).all(|(field, value)| field.as_ref().is_none_or(|allowed| allowed.contains(&value)))
}

/// One field of a cron expression: lists of numbers, names, ranges and steps. `L`, `W` and `#` are not understood.
#[expect(clippy::option_option, reason = "not understood, any, or these")]
fn field(text: &str, least: u16, most: u16, names: &[&str]) -> Option<Option<Vec<u16>>> {
    if text == "*" || text == "?" {
        return Some(None);
    }
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(index) => u16::try_from(index).ok()? + least,
            None => text.parse().ok()?,
        };
        (least..=most).contains(&value).then_some(value)
    };
    let mut allowed = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u16>().ok().filter(|step| *step > 0)?),
            None => (part, 1_u16),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None if range == "*" => (least, most),
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        allowed.extend((from..=to).step_by(usize::from(step)));
    }
    Some(Some(allowed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let after: Timestamp = after.parse().unwrap();
        let next = Schedule::parse(expression).unwrap().after(after.as_second());
        Timestamp::from_second(next).unwrap().to_string()
    }

    #[test]
    fn a_schedule_fires_by_rate_or_by_the_clock() {
        assert_eq!(next("rate(1 minute)", "2026-01-01T00:00:07Z"), "2026-01-01T00:01:07Z");
        assert_eq!(next("rate(6 hours)", "2026-01-01T00:00:00Z"), "2026-01-01T06:00:00Z");
        assert_eq!(next("cron(0/15 * * * ? *)", "2026-01-01T00:00:07Z"), "2026-01-01T00:15:00Z");
        assert_eq!(next("cron(30 6 ? * MON-FRI *)", "2026-01-02T06:30:00Z"), "2026-01-05T06:30:00Z", "over a week-end");
        assert_eq!(next("cron(0 0 1 JAN,JUL ? *)", "2026-01-01T00:00:00Z"), "2026-07-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in
            ["rate(0 minutes)", "rate(5 weeks)", "cron(0 0 * * *)", "cron(61 * * * ? *)", "cron(0 0 L * ? *)", "x"]
        {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }
}

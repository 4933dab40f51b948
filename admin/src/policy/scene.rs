//! A question as Cedar's entities and context.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::PolicyError;
use super::question::{Asked, Asker, Calendar, time_zone};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

type Record = HashMap<String, RestrictedExpression>;

/// What the policies look at: the same for every action that they are asked about.
pub(super) struct Scene<'a> {
    asked: &'a Asked,
    schema: &'a Schema,
    resource: EntityUid,
    /// Of every action that is asked about.
    context: Context,
    pub(super) entities: Entities,
}

impl<'a> Scene<'a> {
    /// What is not known is filled in so that it fits the schema; the policies that look at it have been replaced.
    pub(super) fn of(asked: &'a Asked, schema: &'a Schema) -> Result<Self, PolicyError> {
        let resource = uid("Resource", &asked.resource)?;
        let account = uid("Account", asked.account.as_str())?;
        let mut all = Vec::new();
        let mut above = HashSet::new();
        for unit in asked.account_facts.iter().flat_map(|facts| &facts.ou_path) {
            let unit = uid("OrganizationalUnit", unit)?;
            // A path that names a unit twice is no path; a loop would be refused with a less clear message.
            let entity = Entity::new(unit.clone(), HashMap::new(), above).map_err(|error| wrong(&error))?;
            all.push(entity);
            above = HashSet::from([unit]);
        }
        let facts = asked.account_facts.as_ref();
        let name = text(facts.map_or("", |facts| &facts.name));
        let tags = facts.into_iter().flat_map(|facts| &facts.tags).map(tag);
        all.push(
            Entity::new_with_tags(account.clone(), HashMap::from([("name".to_owned(), name)]), above, tags)
                .map_err(|error| wrong(&error))?,
        );
        let tags = asked.evidence.iter().flat_map(|evidence| &evidence.tags).map(tag);
        let attributes = attributes(asked, account.clone());
        all.push(
            Entity::new_with_tags(resource.clone(), attributes, HashSet::from([account]), tags)
                .map_err(|error| wrong(&error))?,
        );
        let entities = Entities::from_entities(all, Some(schema)).map_err(|error| wrong(&error))?;
        let context = Context::from_pairs(context(asked, asked.now)).map_err(|error| wrong(&error))?;
        Ok(Self { asked, schema, resource, context, entities })
    }

    /// The request for an action on a finding.
    pub(super) fn request(&self, action: &str) -> Result<Request, PolicyError> {
        self.build(self.asked.by.kind(), self.asked.by.id(), action, self.context.clone())
    }

    /// The request to answer an approval.
    pub(super) fn answer(&self, approver: &str, now: Timestamp) -> Result<Request, PolicyError> {
        let mut context = context(self.asked, now);
        let requester = &self.asked.by;
        let own = matches!(requester, Asker::Analyst(by) if is_same_person(by, approver));
        context.insert("requester".to_owned(), text(requester.id()));
        context.insert("self".to_owned(), RestrictedExpression::new_bool(own));
        let context = Context::from_pairs(context).map_err(|error| wrong(&error))?;
        self.build("Analyst", approver, "Answer", context)
    }

    fn build(&self, kind: &'static str, id: &str, action: &str, context: Context) -> Result<Request, PolicyError> {
        Request::new(uid(kind, id)?, uid("Action", action)?, self.resource.clone(), context, Some(self.schema))
            .map_err(|error| wrong(&error))
    }
}

fn attributes(asked: &Asked, account: EntityUid) -> Record {
    let evidence = asked.evidence.as_ref();
    let owner = evidence.and_then(|evidence| evidence.owned_by.as_ref());
    let mut attributes = HashMap::from([
        ("account".to_owned(), text(asked.account.as_str())),
        ("inAccount".to_owned(), RestrictedExpression::new_entity_uid(account)),
        ("region".to_owned(), text(asked.region.as_str())),
        ("arn".to_owned(), text(&asked.resource)),
        ("type".to_owned(), text(&asked.kind)),
        ("control".to_owned(), text(asked.control.as_str())),
        ("family".to_owned(), text(asked.control.family())),
        ("findingType".to_owned(), text(&asked.finding_type)),
        ("severity".to_owned(), RestrictedExpression::new_long(asked.severity.score.into())),
        ("severityLabel".to_owned(), text(asked.severity.label.as_str())),
        ("risk".to_owned(), text(asked.risk.as_str())),
        ("frameworks".to_owned(), RestrictedExpression::new_set(asked.frameworks.iter().map(|name| text(name)))),
        ("owned".to_owned(), RestrictedExpression::new_bool(evidence.is_none() || owner.is_some())),
        (
            "ownerVouched".to_owned(),
            RestrictedExpression::new_bool(evidence.is_none() || owner.is_some_and(|owner| owner.vouched)),
        ),
        (
            "dependents".to_owned(),
            RestrictedExpression::new_long(evidence.map_or(i64::from(u32::MAX), |found| found.dependent_count.into())),
        ),
        ("critical".to_owned(), RestrictedExpression::new_bool(evidence.is_none_or(|found| found.critical.is_some()))),
        ("threat".to_owned(), RestrictedExpression::new_bool(evidence.is_some_and(|found| !found.threats.is_empty()))),
    ]);
    if let Some(exposure) = evidence.and_then(|found| found.exposure.as_ref()) {
        attributes.insert("exposed".to_owned(), RestrictedExpression::new_bool(!exposure.is_empty()));
    }
    if let Some(owner) = owner {
        attributes.insert("owner".to_owned(), text(&owner.manager));
    }
    let last_used = evidence.and_then(|found| found.last_used.as_ref()).and_then(|time| time.parse::<Timestamp>().ok());
    if let Some(time) = last_used {
        let days = (asked.now.as_millisecond() - time.as_millisecond()).max(0) / DAY_MS;
        attributes.insert("lastUsedDays".to_owned(), RestrictedExpression::new_long(days));
    }
    attributes
}

fn context(asked: &Asked, now: Timestamp) -> Record {
    let zone = asked.time_zone.as_deref().map_or(Ok(TimeZone::UTC), time_zone).unwrap_or(TimeZone::UTC);
    let local = now.to_zoned(zone);
    let local = [
        ("hour".to_owned(), RestrictedExpression::new_long(local.hour().into())),
        ("minute".to_owned(), RestrictedExpression::new_long(local.minute().into())),
        ("weekday".to_owned(), text(&local.strftime("%a").to_string().to_ascii_uppercase())),
        ("date".to_owned(), text(&local.date().to_string())),
    ];
    let age = (now.as_millisecond() - asked.first_seen.as_millisecond()).max(0) / HOUR_MS;
    let calendar = match asked.calendar {
        Calendar::None => "NONE",
        Calendar::Open => "OPEN",
        Calendar::Closed | Calendar::Unreadable => "CLOSED",
    };
    // A record of distinct names cannot fail.
    let local = RestrictedExpression::new_record(local).unwrap_or_else(|_| text(""));
    HashMap::from([
        ("mode".to_owned(), text(asked.mode.as_str())),
        ("pilot".to_owned(), RestrictedExpression::new_bool(asked.pilot)),
        ("trigger".to_owned(), text(&asked.trigger)),
        ("local".to_owned(), local),
        ("findingAgeHours".to_owned(), RestrictedExpression::new_long(age)),
        ("changeCalendar".to_owned(), text(calendar)),
        ("breakerOpen".to_owned(), RestrictedExpression::new_bool(asked.breaker_open)),
        ("sample".to_owned(), RestrictedExpression::new_bool(asked.sample)),
        ("now".to_owned(), RestrictedExpression::new_long(now.as_millisecond())),
    ])
}

/// Whether two ARNs may be one person's. One who has two roles has two ARNs with one session name: so whoever ends in the
/// same name is taken for the same.
fn is_same_person(one: &str, other: &str) -> bool {
    let name = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    name(one) == name(other)
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn tag((key, value): (&String, &String)) -> (String, RestrictedExpression) {
    (key.clone(), text(value))
}

fn wrong(error: &dyn std::fmt::Display) -> PolicyError {
    PolicyError::Question(error.to_string())
}

fn uid(kind: &'static str, id: &str) -> Result<EntityUid, PolicyError> {
    static NAMESPACE: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
        let kinds = ["Action", "Rule", "Analyst", "Schedule", "OrganizationalUnit", "Account", "Resource"];
        kinds
            .into_iter()
            .filter_map(|kind| Some((kind, EntityTypeName::from_str(&format!("Redress::{kind}")).ok()?)))
            .collect()
    });
    let name = NAMESPACE.get(kind).ok_or_else(|| wrong(&format_args!("`{kind}` is no entity type")))?;
    Ok(EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id)))
}

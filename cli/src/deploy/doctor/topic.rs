//! The topic by which people hear of remediations.

use redress_common::names;
use serde_json::{Value, json};

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, GET_TOPIC, LIST_SUBSCRIPTIONS, Site, entry, items, number};

static MISSING: Fault = Fault {
    code: "topic-missing",
    severity: Severity::Error,
    about: "the topic is not there",
    why: "nobody hears of anything: neither of what was done nor of what needs a person",
    todo: "update stack redress-administrator with its own template",
};

static UNHEARD: Fault = Fault {
    code: "topic-unheard",
    severity: Severity::Error,
    about: "nobody is subscribed to the topic, or nobody confirmed it",
    why: "nobody hears of anything: neither of what was done nor of what needs a person",
    todo: "`aws sns subscribe --topic-arn {thing} --protocol email --notification-endpoint <address> --region {home}`, then follow the link in the mail",
};

static PENDING: Fault = Fault {
    code: "subscription-pending",
    severity: Severity::Note,
    about: "somebody subscribed and did not confirm it",
    why: "they are told nothing; AWS forgets it after two days",
    todo: "have them follow the link in the mail that AWS sent, or subscribe anew",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Topic,
    at: Where::Administrator,
    about: "the topic SecurityRemediationNotifications: there, with somebody who hears it",
    faults: &[&MISSING, &UNHEARD, &PENDING],
    rights: &["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let place = &site.place;
    let arn =
        format!("arn:{}:sns:{}:{}:{}", place.partition(), place.home, place.administrator, names::NOTIFICATIONS_TOPIC);
    let Some(topic) = site.ask(&GET_TOPIC, json!({ "TopicArn": arn })).await? else {
        return Ok(vec![place.finding(&MISSING, &arn, format!("there is no topic {}", names::NOTIFICATIONS_TOPIC))]);
    };
    let listed = site.ask(&LIST_SUBSCRIPTIONS, json!({ "TopicArn": arn })).await?.unwrap_or_default();
    Ok(judge(place, &arn, &topic, &listed))
}

fn judge(place: &Place, arn: &str, topic: &Value, listed: &Value) -> Vec<Finding> {
    let all = items(&listed["Subscriptions"]);
    let pending = all.iter().filter(|one| one["SubscriptionArn"] == "PendingConfirmation").count();
    // The attribute counts all of them, the list is the first hundred.
    let confirmed = number(entry(&topic["Attributes"], "SubscriptionsConfirmed")).unwrap_or_default();
    let heard = confirmed > 0 || all.len() > pending;
    let mut findings = Vec::new();
    if !heard {
        let what = format!("nobody hears {}: {} subscribed, none confirmed", names::NOTIFICATIONS_TOPIC, all.len());
        findings.push(place.finding(&UNHEARD, arn, what));
    } else if pending > 0 {
        findings.push(place.finding(&PENDING, arn, format!("{pending} subscribed and did not confirm it")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn somebody_hears_the_topic() {
        let topic = |confirmed: &str| json!({ "Attributes": { "entry": [{ "key": "SubscriptionsConfirmed", "value": confirmed }] } });
        let list = |arns: &[&str]| {
            let all: Vec<Value> = arns.iter().map(|arn| json!({ "SubscriptionArn": arn })).collect();
            json!({ "Subscriptions": all })
        };
        let told = |topic: &Value, list: &Value| codes(&judge(&administrator(), "arn", topic, list));
        assert!(told(&topic("1"), &list(&["arn:aws:sns:x"])).is_empty());
        assert!(told(&topic("7"), &Value::Null).is_empty());
        assert_eq!(told(&topic("0"), &Value::Null), ["topic-unheard"]);
        assert_eq!(told(&topic("0"), &list(&["PendingConfirmation"])), ["topic-unheard"]);
        assert_eq!(told(&topic("1"), &list(&["arn:aws:sns:x", "PendingConfirmation"])), ["subscription-pending"]);
    }
}

//! Run Command, as its caller sees it: a command that is sent to instances, and how it ends on each. Nothing runs: the lab's
//! instances are names. A command is in progress when it is first looked at, and a success after that.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::Place;
use super::store::required;
use crate::service::AwsError;

/// The commands that were sent, by place and id.
#[derive(Debug, Default)]
pub(super) struct Commands {
    sent: HashMap<(Place, String), Sent>,
}

#[derive(Debug)]
struct Sent {
    document: String,
    instances: Vec<String>,
    looked: u32,
}

/// The instances that a command is for.
pub(super) fn instances(body: &Value) -> Vec<String> {
    let ids = body["InstanceIds"].as_array();
    ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Commands {
    /// Sends a document that is known to be one.
    pub(super) fn send(&mut self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let (document, instances) = (required(body, "DocumentName")?.to_owned(), instances(body));
        if instances.is_empty() {
            return Err(AwsError::new("InvalidInstanceId", "The lab sends commands to InstanceIds only."));
        }
        let id = Uuid::new_v4().to_string();
        let told = json!({
            "CommandId": id, "DocumentName": document, "InstanceIds": instances, "Comment": body["Comment"],
            "Status": "Pending", "StatusDetails": "Pending", "TargetCount": instances.len(),
        });
        self.sent.insert((place.clone(), id), Sent { document, instances, looked: 0 });
        Ok(json!({ "Command": told }))
    }

    /// How a command stands on an instance.
    pub(super) fn invocation(&mut self, place: &Place, body: &Value) -> Result<Value, AwsError> {
        let (id, instance) = (required(body, "CommandId")?, required(body, "InstanceId")?);
        let sent = self.sent.get_mut(&(place.clone(), id.to_owned()));
        let sent = sent.filter(|sent| sent.instances.iter().any(|one| one == instance));
        let sent =
            sent.ok_or_else(|| AwsError::new("InvocationDoesNotExist", format!("{id} is not for {instance}.")))?;
        let status = if sent.looked == 0 { "InProgress" } else { "Success" };
        sent.looked += 1;
        Ok(json!({
            "CommandId": id, "InstanceId": instance, "DocumentName": sent.document, "Status": status, "StatusDetails": status,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_where_it_was_sent_and_nowhere_else() {
        let place = Place { account: "111122223333".to_owned(), region: "eu-central-1".to_owned() };
        let mut commands = Commands::default();
        let asked = json!({ "DocumentName": "Memory", "InstanceIds": ["i-1"] });
        let id = commands.send(&place, &asked).unwrap()["Command"]["CommandId"].clone();
        let mut on = |place: &Place, instance: &str| {
            let looked = commands.invocation(place, &json!({ "CommandId": id, "InstanceId": instance }));
            looked.map_or_else(|error| error.code, |told| told["Status"].as_str().unwrap().to_owned())
        };
        assert_eq!([on(&place, "i-1"), on(&place, "i-1")], ["InProgress", "Success"]);
        let other = Place { region: "eu-west-1".to_owned(), ..place.clone() };
        assert_eq!([on(&place, "i-2"), on(&other, "i-1")], ["InvocationDoesNotExist"; 2]);
        assert!(commands.send(&place, &json!({ "DocumentName": "Memory" })).is_err());
    }
}

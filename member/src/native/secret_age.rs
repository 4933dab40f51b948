//! `secret_age`: a secret is rotated at least as often as it must be.
//!
//! It is rotated at once by the function that it has, and its schedule is made as tight as it must be. The undo puts the
//! schedule back; the new value stays. When it was rotated last is no part of the state: no undo can give that back. Who
//! rotates is a function of the account's, which takes a while: it is waited for.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::setting::SECRETS;
use super::{Declared, Native, NativeError, number, parameter, planned, typed, untyped};
use crate::wire::{Operation, Wire};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "secret_age",
    reads: &["secretsmanager:DescribeSecret"],
    changes: &["lambda:InvokeFunction", "secretsmanager:CancelRotateSecret", "secretsmanager:RotateSecret"],
    make: |clients, request| Ok(Box::new(SecretAge::new(clients.wire.clone(), request, Timestamp::now())?)),
};

static DESCRIBE: Operation = SECRETS.operation("DescribeSecret");
static ROTATE: Operation = SECRETS.operation("RotateSecret");
static CANCEL: Operation = SECRETS.operation("CancelRotateSecret");

/// How often the secret is looked at until its function has rotated it: two minutes.
const LOOKS: usize = 40;
const PAUSE: Duration = Duration::from_secs(3);

/// The function on one secret.
#[derive(Debug)]
pub struct SecretAge {
    wire: Wire,
    secret: String,
    region: String,
    most_days: i64,
    /// What was rotated before, was so too long ago; in Unix seconds.
    before: i64,
    /// A call that is made twice rotates once.
    token: String,
    pause: Duration,
    /// What the last look saw beside the state.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    rotated: Option<i64>,
    is_overdue: bool,
    /// The function that it has, or had.
    function: Option<String>,
    /// Days between two rotations, as AWS works them out.
    every: Option<i64>,
}

impl SecretAge {
    /// Parameter `MaxDaysSinceRotation`: how many days ago a secret may have been rotated.
    ///
    /// # Errors
    /// When it is no number of days.
    pub fn new(wire: Wire, request: &RemediateRequest, now: Timestamp) -> Result<Self, NativeError> {
        const DAYS: &str = "a number of days, 1 to 180";
        let wrong = || NativeError::Parameter { name: "MaxDaysSinceRotation".to_owned(), expected: DAYS };
        let days = number(parameter(&request.parameters, "MaxDaysSinceRotation", DAYS)?);
        let most_days = days.filter(|days| (1..=180).contains(days)).ok_or_else(wrong)?;
        let before = now.checked_sub(SignedDuration::from_hours(24 * most_days)).map_err(|_| wrong())?.as_second();
        Ok(Self {
            wire,
            secret: request.job.resource_arn.to_string(),
            region: request.region.to_string(),
            most_days,
            before,
            token: request.job.remediation_id.to_string(),
            pause: PAUSE,
            seen: Mutex::default(),
        })
    }

    async fn described(&self) -> Result<Option<Value>, NativeError> {
        match self.wire.call(&DESCRIBE, &json!({ "SecretId": self.secret })).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Waits until the function has rotated it. When it does not, reading back tells.
    async fn rotated(&self, since: Option<i64>) -> Result<(), NativeError> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(self.pause).await;
            }
            let secret = self.described().await?.unwrap_or_default();
            if seconds(&secret["LastRotatedDate"]).is_some_and(|at| since.is_none_or(|since| at > since)) {
                break;
            }
        }
        Ok(())
    }
}

/// A date, as AWS writes it: seconds, with a fraction.
fn seconds(date: &Value) -> Option<i64> {
    let seconds = date.as_f64()?;
    Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok().map(Timestamp::as_second)
}

#[async_trait]
impl Native for SecretAge {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let Some(secret) = self.described().await? else { return Ok(None) };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rotated = seconds(&secret["LastRotatedDate"]);
        let known = rotated.or_else(|| seconds(&secret["CreatedDate"]));
        let is_on = secret["RotationEnabled"] == true;
        let function = text(&secret["RotationLambdaARN"]);
        let mut rules = secret["RotationRules"].as_object().cloned().unwrap_or_default();
        let every = rules.get("AutomaticallyAfterDays").and_then(Value::as_i64).filter(|_| is_on);
        if rules.contains_key("ScheduleExpression") {
            // AWS works it out anew after each rotation.
            rules.remove("AutomaticallyAfterDays");
        }
        // AWS goes on telling both after rotation was turned off.
        let state = State {
            rotation_enabled: is_on,
            rotation_lambda_arn: function.clone().filter(|_| is_on),
            rotation_rules: (is_on && !rules.is_empty()).then_some(Value::Object(rules)),
            is_managed: !secret["OwningService"].is_null(),
            is_replica: secret["PrimaryRegion"].as_str().is_some_and(|primary| primary != self.region),
            is_to_be_deleted: !secret["DeletedDate"].is_null(),
        };
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Seen { rotated, is_overdue: known.is_some_and(|at| at < self.before), function, every };
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        let Ok(seen) = self.seen.lock() else { return Err(NativeError::Refused("the secret could not be looked at")) };
        if !seen.is_overdue {
            return Ok(Change::default());
        }
        if state.is_managed {
            return Err(NativeError::Refused("another AWS service manages this secret; rotate it there"));
        }
        if state.is_to_be_deleted {
            return Err(NativeError::Refused("the secret is to be deleted; restore it first if it is still needed"));
        }
        if state.is_replica {
            return Err(NativeError::Refused("the secret is a replica; rotate the one that it is a replica of"));
        }
        let Some(function) = &seen.function else {
            return Err(NativeError::Refused(
                "the secret has no rotation function; make one for its kind, and name it when rotation is turned on",
            ));
        };
        let mut input = json!({ "SecretId": self.secret });
        if !state.rotation_enabled {
            input["RotationLambdaARN"] = function.as_str().into();
        }
        if seen.every.is_none_or(|every| every > self.most_days) {
            input["RotationRules"] = json!({ "AutomaticallyAfterDays": self.most_days });
        }
        Ok(Change(vec![planned(&DECLARED, "secretsmanager", ROTATE.name, &input)?]))
    }

    fn plan_restore(&self, _: &Image, before: &Image) -> Result<Change, NativeError> {
        let before: State = typed(&before.state, "the state", DECLARED.name)?;
        let (operation, input) = if before.rotation_enabled {
            let mut input = json!({ "SecretId": self.secret, "RotateImmediately": false });
            for (name, value) in [
                ("RotationLambdaARN", before.rotation_lambda_arn.map(Value::from)),
                ("RotationRules", before.rotation_rules),
            ] {
                if let Some(value) = value {
                    input[name] = value;
                }
            }
            (ROTATE.name, input)
        } else {
            (CANCEL.name, json!({ "SecretId": self.secret }))
        };
        Ok(Change(vec![planned(&DECLARED, "secretsmanager", operation, &input)?]))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if call.operation == CANCEL.name {
            self.wire.call(&CANCEL, &call.parameters).await?;
            return Ok(());
        }
        if call.operation != ROTATE.name {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        let since = self.seen.lock().ok().and_then(|seen| seen.rotated);
        let mut input = call.parameters.clone();
        input["ClientRequestToken"] = self.token.as_str().into();
        self.wire.call(&ROTATE, &input).await?;
        if call.parameters["RotateImmediately"] == false { Ok(()) } else { self.rotated(since).await }
    }
}

/// The image's state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    rotation_enabled: bool,
    #[serde(rename = "RotationLambdaARN")]
    rotation_lambda_arn: Option<String>,
    rotation_rules: Option<Value>,
    is_managed: bool,
    is_replica: bool,
    is_to_be_deleted: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{FakeAws, job};

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders-AbCdEf";
    const FUNCTION: &str = "arn:aws:lambda:eu-central-1:111122223333:function:SecretsManagerOrders";
    /// 2026-01-01.
    const OLD: f64 = 1_767_225_600.25;
    /// 2026-11-01.
    const YOUNG: f64 = 1_793_491_200.0;

    fn native(aws: &FakeAws, days: i64) -> Result<SecretAge, NativeError> {
        let request = RemediateRequest {
            job: job(SECRET),
            native: DECLARED.name.to_owned(),
            account_id: "111122223333".parse().unwrap(),
            region: "eu-central-1".parse().unwrap(),
            parameters: [("MaxDaysSinceRotation".to_owned(), json!(days))].into(),
            copy: None,
        };
        SecretAge::new(Wire::new(aws.config()), &request, "2026-11-20T12:00:00Z".parse().unwrap())
    }

    fn answers(aws: &FakeAws, secret: Value) {
        let mut whole = json!({ "ARN": SECRET, "CreatedDate": OLD });
        whole.as_object_mut().unwrap().extend(secret.as_object().unwrap().clone());
        aws.answer("DescribeSecret", 200, &whole.to_string());
    }

    fn rotates(days: i64, rotated: f64) -> Value {
        json!({ "RotationEnabled": true, "RotationLambdaARN": FUNCTION, "LastRotatedDate": rotated,
            "RotationRules": { "AutomaticallyAfterDays": days, "Duration": "2h" } })
    }

    async fn planned_of(secret: Value) -> Result<Vec<Value>, String> {
        let aws = FakeAws::default();
        answers(&aws, secret);
        let native = native(&aws, 90).unwrap();
        let image = native.inspect().await.unwrap().unwrap();
        let change = native.plan(&image).map_err(|error| error.to_string())?;
        Ok(change.0.into_iter().map(|call| json!([call.operation, call.parameters])).collect())
    }

    #[tokio::test]
    async fn what_is_overdue_is_rotated_now_and_often_enough_from_now_on() {
        let tighter =
            json!(["RotateSecret", { "SecretId": SECRET, "RotationRules": { "AutomaticallyAfterDays": 90 } }]);
        assert_eq!(planned_of(rotates(365, OLD)).await.unwrap(), [tighter]);
        let kept = json!(["RotateSecret", { "SecretId": SECRET }]);
        assert_eq!(planned_of(rotates(30, OLD)).await.unwrap(), [kept]);
        let off = json!({ "RotationEnabled": false, "RotationLambdaARN": FUNCTION, "RotationRules": { "AutomaticallyAfterDays": 30 } });
        let on = json!(["RotateSecret", { "SecretId": SECRET, "RotationLambdaARN": FUNCTION, "RotationRules": { "AutomaticallyAfterDays": 90 } }]);
        assert_eq!(planned_of(off).await.unwrap(), [on]);
    }

    #[tokio::test]
    async fn what_was_rotated_or_made_lately_is_left_alone() {
        assert_eq!(planned_of(rotates(365, YOUNG)).await.unwrap(), Vec::<Value>::new());
        assert_eq!(planned_of(json!({ "CreatedDate": YOUNG })).await.unwrap(), Vec::<Value>::new());
    }

    #[tokio::test]
    async fn what_nobody_here_can_rotate_is_refused_with_the_way_out() {
        let with = |more: Value| {
            let mut secret = rotates(365, OLD);
            secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            secret
        };
        assert!(planned_of(json!({ "RotationEnabled": false })).await.unwrap_err().contains("no rotation function"));
        assert!(planned_of(with(json!({ "OwningService": "rds" }))).await.unwrap_err().contains("another AWS service"));
        assert!(planned_of(with(json!({ "DeletedDate": YOUNG }))).await.unwrap_err().contains("to be deleted"));
        assert!(planned_of(with(json!({ "PrimaryRegion": "us-east-1" }))).await.unwrap_err().contains("a replica"));
    }

    #[tokio::test]
    async fn the_schedule_comes_back_and_nothing_is_rotated_for_that() {
        let aws = FakeAws::default();
        let native = native(&aws, 90).unwrap();
        let mut images = Vec::new();
        let off = json!({ "RotationEnabled": false, "RotationLambdaARN": FUNCTION });
        let cron = json!({ "RotationEnabled": true, "RotationLambdaARN": FUNCTION, "LastRotatedDate": OLD,
            "RotationRules": { "AutomaticallyAfterDays": 28, "ScheduleExpression": "cron(0 4 1 * ? *)" } });
        for secret in [rotates(365, OLD), rotates(90, YOUNG), off, cron] {
            answers(&aws, secret);
            images.push(native.inspect().await.unwrap().unwrap());
        }
        let back = |before: usize| native.plan_restore(&images[1], &images[before]).unwrap().0.remove(0);
        assert_eq!(
            back(0).parameters,
            json!({ "SecretId": SECRET, "RotationLambdaARN": FUNCTION, "RotateImmediately": false,
                "RotationRules": { "AutomaticallyAfterDays": 365, "Duration": "2h" } })
        );
        assert_eq!(
            (back(2).operation.as_str(), back(2).parameters),
            ("CancelRotateSecret", json!({ "SecretId": SECRET }))
        );
        assert_eq!(back(3).parameters["RotationRules"], json!({ "ScheduleExpression": "cron(0 4 1 * ? *)" }));
    }

    #[tokio::test]
    async fn the_function_is_waited_for_and_reading_back_tells_when_it_does_not_come() {
        let aws = FakeAws::default();
        let native = SecretAge { pause: Duration::ZERO, ..native(&aws, 90).unwrap() };
        answers(&aws, rotates(365, OLD));
        let image = native.inspect().await.unwrap().unwrap();
        let call = native.plan(&image).unwrap().0.remove(0);
        aws.answer("RotateSecret", 200, "{}");
        for at in [OLD, OLD, YOUNG] {
            answers(&aws, rotates(90, at));
        }
        native.call(&call).await.unwrap();
        let sent = String::from_utf8(aws.seen()[1].body.clone()).unwrap();
        assert!(sent.contains("ClientRequestToken"), "{sent}");
        assert_eq!(aws.seen().len(), 5, "looked at until it was rotated");

        aws.answer("RotateSecret", 200, "{}");
        for _ in 0..=LOOKS {
            answers(&aws, rotates(90, OLD));
        }
        native.call(&call).await.unwrap();
        let after = native.inspect().await.unwrap().unwrap();
        assert!(!native.compliant(&after), "it was not rotated");
    }

    #[tokio::test]
    async fn a_secret_that_is_not_there_is_none_and_days_are_bounded() {
        let aws = FakeAws::default();
        aws.answer("DescribeSecret", 400, r#"{"__type":"ResourceNotFoundException"}"#);
        assert_eq!(native(&aws, 90).unwrap().inspect().await.unwrap(), None);
        assert!(native(&aws, 0).is_err() && native(&aws, 181).is_err());
    }
}

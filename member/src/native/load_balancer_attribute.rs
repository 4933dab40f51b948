//! `load_balancer_attribute`: one attribute of an Application, Network or Gateway Load Balancer has the value that is
//! asked for.
//!
//! `ModifyLoadBalancerAttributes` changes only the attributes that it is sent; the image holds no other. An
//! attribute that this kind of load balancer does not have cannot be set, which is said instead of tried.

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::LoadBalancerAttribute;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, Job};
use serde::{Deserialize, Serialize};

use super::{Declared, Native, NativeError, Parameters, parameter, planned, typed, untyped};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "load_balancer_attribute",
    reads: &["elasticloadbalancing:DescribeLoadBalancerAttributes"],
    changes: &["elasticloadbalancing:ModifyLoadBalancerAttributes"],
    make: |clients, request| {
        Ok(Box::new(BalancerAttribute::new(clients.balancers.clone(), &request.job, &request.parameters)?))
    },
};

/// The function on one load balancer.
#[derive(Debug)]
pub struct BalancerAttribute {
    client: Client,
    arn: String,
    wanted: Attribute,
}

impl BalancerAttribute {
    /// Parameters `Attribute` and `Value`, as the API writes them.
    ///
    /// # Errors
    /// When one is missing or no text.
    pub fn new(client: Client, job: &Job, parameters: &Parameters) -> Result<Self, NativeError> {
        let text = |name: &str, expected| {
            let text = parameter(parameters, name, expected)?.as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected })
        };
        let key = text("Attribute", "the key of an attribute of load balancers")?;
        let value = text("Value", "that attribute's value, as text")?;
        Ok(Self { client, arn: job.resource_arn.to_string(), wanted: Attribute { key, value } })
    }

    /// The call that gives the attribute this value.
    fn set(&self, value: &str) -> Result<Change, NativeError> {
        let attribute = Attribute { key: self.wanted.key.clone(), value: value.to_owned() };
        let modify = Modify { load_balancer_arn: self.arn.clone(), attributes: vec![attribute] };
        Ok(Change(vec![planned(&DECLARED, "elbv2", "ModifyLoadBalancerAttributes", &modify)?]))
    }
}

#[async_trait]
impl Native for BalancerAttribute {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.describe_load_balancer_attributes().load_balancer_arn(&self.arn).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("DescribeLoadBalancerAttributes", &error)) {
            Err(failure) if failure.code() == Some("LoadBalancerNotFound") => return Ok(None),
            answer => answer?,
        };
        let found = answer.attributes().iter().find(|attribute| attribute.key() == Some(&self.wanted.key));
        let state = State { value: found.and_then(|attribute| attribute.value()).map(str::to_owned) };
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        match State::of(now)?.value {
            Some(value) if value == self.wanted.value => Ok(Change::default()),
            Some(_) => self.set(&self.wanted.value),
            None => Err(NativeError::Refused(
                "this kind of load balancer does not have the attribute, so nothing can be set; suppress the finding",
            )),
        }
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        match (State::of(now)?.value, State::of(before)?.value) {
            (now, before) if now == before => Ok(Change::default()),
            (_, Some(before)) => self.set(&before),
            (_, None) => Err(NativeError::Refused("an attribute cannot be taken away from a load balancer")),
        }
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if call.operation != "ModifyLoadBalancerAttributes" {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        let modify: Modify = typed(&call.parameters, "a call", DECLARED.name)?;
        let attributes = modify
            .attributes
            .into_iter()
            .map(|attribute| LoadBalancerAttribute::builder().key(attribute.key).value(attribute.value).build());
        self.client
            .modify_load_balancer_attributes()
            .load_balancer_arn(modify.load_balancer_arn)
            .set_attributes(Some(attributes.collect()))
            .send()
            .await
            .map_err(|error| AwsFailure::of("ModifyLoadBalancerAttributes", &error))?;
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Attribute {
    key: String,
    value: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Modify {
    load_balancer_arn: String,
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    /// `None`: this kind of load balancer does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl State {
    fn of(image: &Image) -> Result<Self, NativeError> {
        typed(&image.state, "the state", DECLARED.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{FakeAws, job};

    const ARN: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/shop/50dc6c495c0c9188";

    fn native(aws: &FakeAws) -> BalancerAttribute {
        let parameters = json!({ "Attribute": "deletion_protection.enabled", "Value": "true" });
        let parameters = serde_json::from_value(parameters).unwrap();
        BalancerAttribute::new(Client::new(&aws.config()), &job(ARN), &parameters).unwrap()
    }

    fn image(value: Value) -> Image {
        Image { present: true, state: value }
    }

    #[test]
    fn only_this_attribute_is_sent_and_the_undo_gives_it_its_value_back() {
        let native = native(&FakeAws::default());
        let (off, on) = (image(json!({ "Value": "false" })), image(json!({ "Value": "true" })));
        let sent = |value: &str| {
            json!([{ "Service": "elbv2", "Operation": "ModifyLoadBalancerAttributes", "Parameters": {
                "LoadBalancerArn": ARN, "Attributes": [{ "Key": "deletion_protection.enabled", "Value": value }] } }])
        };
        assert_eq!(serde_json::to_value(native.plan(&off).unwrap()).unwrap(), sent("true"));
        assert_eq!(serde_json::to_value(native.plan_restore(&on, &off).unwrap()).unwrap(), sent("false"));
        assert!(native.compliant(&on));
        assert_eq!(native.plan_restore(&off, &off).unwrap(), Change::default());
    }

    #[test]
    fn an_attribute_that_is_not_there_is_not_invented() {
        let native = native(&FakeAws::default());
        assert!(native.plan(&image(json!({}))).unwrap_err().to_string().contains("does not have the attribute"));
        assert!(!native.compliant(&image(json!({}))));
    }

    #[tokio::test]
    async fn the_answer_becomes_an_image_and_no_load_balancer_is_none() {
        let aws = FakeAws::default();
        let member = |key: &str, value: &str| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
        let body = format!(
            "<DescribeLoadBalancerAttributesResponse><DescribeLoadBalancerAttributesResult><Attributes>{}{}</Attributes>\
             </DescribeLoadBalancerAttributesResult></DescribeLoadBalancerAttributesResponse>",
            member("access_logs.s3.enabled", "true"),
            member("deletion_protection.enabled", "false"),
        );
        aws.answer("DescribeLoadBalancerAttributes", 200, &body);
        assert_eq!(native(&aws).inspect().await.unwrap(), Some(image(json!({ "Value": "false" }))));
        let gone = "<ErrorResponse><Error><Type>Sender</Type><Code>LoadBalancerNotFound</Code></Error></ErrorResponse>";
        aws.answer("DescribeLoadBalancerAttributes", 400, gone);
        assert_eq!(native(&aws).inspect().await.unwrap(), None);
    }
}

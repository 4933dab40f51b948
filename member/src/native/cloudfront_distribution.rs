//! `cloudfront_distribution`: one part of a distribution's configuration.
//!
//! CloudFront takes a configuration only as a whole. It comes and goes as the XML that CloudFront wrote: only the text of
//! the elements in question is replaced ([`document`]), so nothing is lost that this function does not know, and what it
//! does not need (the secret headers of origins are in there, too) is in no plan and no evidence. A plan says which part gets
//! which value; the configuration that it is put into is the one that was read last, and CloudFront's `ETag` of it sees to it
//! that nobody else's change is written over.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image, RemediateRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Clients, Declared, Native, NativeError, Parameters, parameter, planned, typed, untyped};
use crate::wire::{Operation, Protocol, Service, Wire};

mod document;

use document::{Document, Element};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "cloudfront_distribution",
    reads: &["cloudfront:GetDistributionConfig", "s3:ListBucket"],
    changes: &["cloudfront:UpdateDistribution"],
    make: |clients, request| Ok(Box::new(Distribution::new(clients, request)?)),
};

static CLOUDFRONT: Service = Service::of("cloudfront", Protocol::Document);
static GET_CONFIG: Operation = CLOUDFRONT.at("GetDistributionConfig", "GET", "/2020-05-31/distribution/{Id}/config");
static UPDATE: Operation = CLOUDFRONT.at("UpdateDistribution", "PUT", "/2020-05-31/distribution/{Id}/config");

/// The function on one distribution.
#[derive(Debug)]
pub struct Distribution {
    wire: Wire,
    s3: aws_sdk_s3::Client,
    id: String,
    goal: Goal,
    /// The configuration that was read last, and its `ETag`.
    read: Mutex<(Value, String)>,
}

/// What a distribution must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    /// It answers for its root with this object.
    RootObject(String),
    /// Viewers are sent to HTTPS.
    Encryption,
    /// No origin is a bucket that is not there: such a one becomes this host, which nobody can own.
    NoLostOrigin(String),
}

const LOST: &str = "the configuration is not of the form that CloudFront writes; nothing was changed";
const POLICY: &str = "ViewerProtocolPolicy";

/// What counts of a distribution, by goal; also what a change sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum State {
    /// The root object; `None` when the configuration does not speak of it.
    DefaultRootObject(Option<String>),
    /// The protocol policy of each behaviour, by its path; the default one's is empty.
    ViewerProtocolPolicy(BTreeMap<String, String>),
    /// The origins in question, by id.
    Origins(BTreeMap<String, Origin>),
}

/// An origin, as far as a bucket's being there decides on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Origin {
    domain_name: String,
    /// The element of its kind, whole: `S3OriginConfig` or `CustomOriginConfig`.
    kind: String,
    /// `None` when the configuration does not speak of it.
    origin_access_control_id: Option<String>,
}

impl Distribution {
    /// Parameters `Goal`, and `DefaultRootObject` or `Replacement`.
    ///
    /// # Errors
    /// When they are missing or no such goal exists.
    pub fn new(clients: &Clients, request: &RemediateRequest) -> Result<Self, NativeError> {
        Ok(Self {
            wire: clients.wire.clone(),
            s3: clients.s3.clone(),
            id: request.job.resource_name.clone(),
            goal: Goal::of(&request.parameters)?,
            read: Mutex::default(),
        })
    }

    /// Whether a bucket is there, whoever owns it.
    async fn exists(&self, bucket: &str) -> Result<bool, NativeError> {
        let answer = self.s3.head_bucket().bucket(bucket).send().await;
        match answer {
            Ok(_) => Ok(true),
            // S3 says with the status alone that a bucket is another's, or in another Region.
            Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
                Some(404) => Ok(false),
                Some(301 | 307 | 403) => Ok(true),
                _ => Err(AwsFailure::of("HeadBucket", &error).into()),
            },
        }
    }

    async fn lost(&self, document: &Document<'_>, replacement: &str) -> Result<State, NativeError> {
        let mut origins = BTreeMap::new();
        for (id, origin) in document.origins().ok_or(NativeError::Refused(LOST))? {
            let ours = origin.domain_name == replacement;
            let lost = match bucket(&origin) {
                Some(bucket) => !self.exists(bucket).await?,
                None => false,
            };
            if ours || lost {
                origins.insert(id, origin);
            }
        }
        Ok(State::Origins(origins))
    }
}

/// The bucket of an origin that S3 serves as such. A bucket's website is an origin like any other server.
fn bucket(origin: &Origin) -> Option<&str> {
    if !origin.kind.starts_with("<S3OriginConfig") {
        return None;
    }
    // `name.s3.amazonaws.com`, `name.s3.region.amazonaws.com`, `name.s3-region.amazonaws.com`; a name may have dots.
    let (name, _) = [".s3.", ".s3-"].iter().find_map(|mark| origin.domain_name.rsplit_once(mark))?;
    Some(name)
}

impl Goal {
    fn of(parameters: &Parameters) -> Result<Self, NativeError> {
        let text = |name: &str| -> Result<String, NativeError> {
            let expected = "a text that is not empty";
            let value = parameter(parameters, name, expected)?.as_str().filter(|text| !text.is_empty());
            value.map(str::to_owned).ok_or_else(|| NativeError::Parameter { name: name.to_owned(), expected })
        };
        match text("Goal")?.as_str() {
            "RootObject" => Ok(Self::RootObject(text("DefaultRootObject")?)),
            "Encryption" => Ok(Self::Encryption),
            "NoLostOrigin" => Ok(Self::NoLostOrigin(text("Replacement")?)),
            _ => Err(NativeError::Parameter {
                name: "Goal".to_owned(),
                expected: "RootObject, Encryption or NoLostOrigin",
            }),
        }
    }

    /// What must be set so that it holds.
    fn wanted(&self, now: &State) -> Result<Option<State>, NativeError> {
        Ok(match (self, now) {
            (Self::RootObject(object), State::DefaultRootObject(name)) => {
                let missing = name.as_deref().is_none_or(str::is_empty);
                missing.then(|| State::DefaultRootObject(Some(object.clone())))
            }
            (Self::Encryption, State::ViewerProtocolPolicy(policies)) => {
                let open = policies.iter().filter(|(_, policy)| *policy == "allow-all");
                let open: BTreeMap<_, _> =
                    open.map(|(path, _)| (path.clone(), "redirect-to-https".to_owned())).collect();
                (!open.is_empty()).then_some(State::ViewerProtocolPolicy(open))
            }
            (Self::NoLostOrigin(replacement), State::Origins(origins)) => {
                let lost = origins.iter().filter(|(_, origin)| origin.domain_name != *replacement);
                let lost: BTreeMap<_, _> = lost.map(|(id, origin)| (id.clone(), origin.led_to(replacement))).collect();
                (!lost.is_empty()).then_some(State::Origins(lost))
            }
            _ => return Err(form("a state")),
        })
    }
}

impl Origin {
    /// The origin with another host, asked over HTTPS.
    fn led_to(&self, host: &str) -> Self {
        let kind = "<CustomOriginConfig><HTTPPort>80</HTTPPort><HTTPSPort>443</HTTPSPort><OriginProtocolPolicy>https-only</OriginProtocolPolicy><OriginSslProtocols><Quantity>1</Quantity><Items><SslProtocol>TLSv1.2</SslProtocol></Items></OriginSslProtocols></CustomOriginConfig>";
        Self {
            domain_name: host.to_owned(),
            kind: kind.to_owned(),
            // One of S3 does not go with another kind of origin.
            origin_access_control_id: self.origin_access_control_id.as_ref().map(|_| String::new()),
        }
    }
}

/// What of `before` differs from `now`.
fn back(now: State, before: State) -> Option<State> {
    fn differing<T: PartialEq>(now: &BTreeMap<String, T>, before: BTreeMap<String, T>) -> BTreeMap<String, T> {
        before.into_iter().filter(|(key, value)| now.get(key).is_some_and(|now| now != value)).collect()
    }
    let state = match (now, before) {
        (State::ViewerProtocolPolicy(now), State::ViewerProtocolPolicy(before)) => {
            State::ViewerProtocolPolicy(differing(&now, before))
        }
        (State::Origins(now), State::Origins(before)) => State::Origins(differing(&now, before)),
        (_, before) => before,
    };
    let nothing = match &state {
        State::DefaultRootObject(_) => false,
        State::ViewerProtocolPolicy(policies) => policies.is_empty(),
        State::Origins(origins) => origins.is_empty(),
    };
    (!nothing).then_some(state)
}

/// A change: the distribution, and what of its configuration is set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Update {
    id: String,
    set: State,
}

const fn form(what: &'static str) -> NativeError {
    NativeError::Form { what, native: DECLARED.name }
}

impl Distribution {
    fn change(&self, set: Option<State>) -> Result<Change, NativeError> {
        let Some(set) = set else { return Ok(Change::default()) };
        let update = Update { id: self.id.clone(), set };
        Ok(Change(vec![planned(&DECLARED, "cloudfront", UPDATE.name, &update)?]))
    }
}

#[async_trait]
impl Native for Distribution {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = match self.wire.call(&GET_CONFIG, &json!({ "Id": self.id })).await {
            Err(failure) if failure.code() == Some("NoSuchDistribution") => return Ok(None),
            answer => answer?,
        };
        let text = answer["Document"].as_str().unwrap_or_default().to_owned();
        let document = Document::read(&text).ok_or(NativeError::Refused(LOST))?;
        let state = match &self.goal {
            Goal::RootObject(_) => State::DefaultRootObject(document.root_object()),
            Goal::Encryption => State::ViewerProtocolPolicy(document.policies().ok_or(NativeError::Refused(LOST))?),
            Goal::NoLostOrigin(replacement) => self.lost(&document, replacement).await?,
        };
        drop(document);
        *self.read.lock().await = (answer["ETag"].clone(), text);
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        let now: State = typed(&now.state, "a state", DECLARED.name)?;
        self.change(self.goal.wanted(&now)?)
    }

    fn plan_restore(&self, now: &Image, before: &Image) -> Result<Change, NativeError> {
        let state = |image: &Image| typed(&image.state, "a state", DECLARED.name);
        self.change(back(state(now)?, state(before)?))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        let update: Update = typed(&call.parameters, "a call", DECLARED.name)?;
        if call.operation != UPDATE.name || update.id != self.id {
            return Err(form("a call"));
        }
        let (tag, text) = self.read.lock().await.clone();
        let edited = Document::read(&text).and_then(|document| document.with(&update.set));
        let edited = edited.ok_or(NativeError::Refused(LOST))?;
        let input = json!({ "Id": self.id, "IfMatch": tag, "Document": edited });
        self.wire.call(&UPDATE, &input).await?;
        Ok(())
    }
}

impl Document<'_> {
    fn root_object(&self) -> Option<String> {
        self.child(self.root(), "DefaultRootObject").map(|element| self.text(element))
    }

    /// The behaviours, by their path.
    fn behaviors(&self) -> Option<Vec<(String, &Element)>> {
        let default = self.child(self.root(), "DefaultCacheBehavior")?;
        let mut behaviors = vec![(String::new(), default)];
        if let Some(items) = self.child(self.root(), "CacheBehaviors").and_then(|list| self.child(list, "Items")) {
            for behavior in self.children(items) {
                behaviors.push((self.text(self.child(behavior, "PathPattern")?), behavior));
            }
        }
        Some(behaviors)
    }

    fn policies(&self) -> Option<BTreeMap<String, String>> {
        let policy = |(path, behavior)| Some((path, self.text(self.child(behavior, POLICY)?)));
        self.behaviors()?.into_iter().map(policy).collect()
    }

    fn origin_elements(&self) -> Option<Vec<(String, &Element)>> {
        let items = self.child(self.child(self.root(), "Origins")?, "Items")?;
        let named = |origin| Some((self.text(self.child(origin, "Id")?), origin));
        self.children(items).map(named).collect()
    }

    /// The element that says what kind of origin one is. None says it for those in a VPC.
    fn kind(&self, origin: &Element) -> Option<&Element> {
        ["S3OriginConfig", "CustomOriginConfig"].iter().find_map(|name| self.child(origin, name))
    }

    fn origins(&self) -> Option<BTreeMap<String, Origin>> {
        let mut origins = BTreeMap::new();
        for (id, origin) in self.origin_elements()? {
            let Some(kind) = self.kind(origin) else { continue };
            let access = self.child(origin, "OriginAccessControlId").map(|element| self.text(element));
            let described = Origin {
                domain_name: self.text(self.child(origin, "DomainName")?),
                kind: self.source(kind).to_owned(),
                origin_access_control_id: access,
            };
            origins.insert(id, described);
        }
        Some(origins)
    }

    /// The document with something set. `None` when there is no place for it.
    fn with(&self, set: &State) -> Option<String> {
        let mut edits = Vec::new();
        match set {
            State::DefaultRootObject(object) => match (self.child(self.root(), "DefaultRootObject"), object) {
                (Some(element), Some(object)) => edits.push(self.filled(element, object)),
                (Some(element), None) => edits.push(self.replaced(element, "")),
                (None, Some(object)) => {
                    let origins = self.child(self.root(), "Origins")?;
                    edits.push(self.before(origins, "DefaultRootObject", object));
                }
                (None, None) => {}
            },
            State::ViewerProtocolPolicy(policies) => {
                let behaviors = self.behaviors()?;
                for (path, policy) in policies {
                    let (_, behavior) = behaviors.iter().find(|(of, _)| of == path)?;
                    edits.push(self.filled(self.child(behavior, POLICY)?, policy));
                }
            }
            State::Origins(origins) => {
                let elements = self.origin_elements()?;
                for (id, wanted) in origins {
                    let (_, origin) = elements.iter().find(|(of, _)| of == id)?;
                    edits.push(self.filled(self.child(origin, "DomainName")?, &wanted.domain_name));
                    edits.push(self.replaced(self.kind(origin)?, &wanted.kind));
                    match (self.child(origin, "OriginAccessControlId"), &wanted.origin_access_control_id) {
                        (Some(element), Some(access)) => edits.push(self.filled(element, access)),
                        (None, None) => {}
                        _ => return None,
                    }
                }
            }
        }
        self.edited(edits)
    }
}

#[cfg(test)]
#[path = "cloudfront_distribution_tests.rs"]
mod tests;

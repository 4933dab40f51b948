//! `expired_certificate`: IAM keeps no server certificate that has expired.
//!
//! Deleting one that a listener still uses would stop its load balancer sooner or later, and IAM does not always notice. So
//! the listeners of every Region that is enabled for the account are looked at first; where one cannot be, nothing is
//! deleted. Distributions of CloudFront are not looked at: certificates for them are refused. Nobody can read a private key
//! from AWS, so an undo is refused. What is not there complies.

use async_trait::async_trait;
use jiff::Timestamp;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::{Call, Change, Image};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::setting::EC2;
use super::{Declared, Native, NativeError, planned, typed, untyped};
use crate::judge;
use crate::wire::{Operation, Protocol, Service, Wire};

/// What this function is called, and calls.
pub const DECLARED: Declared = Declared {
    name: "expired_certificate",
    reads: &[
        "ec2:DescribeRegions",
        "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "iam:GetServerCertificate",
    ],
    changes: &["iam:DeleteServerCertificate"],
    make: |clients, request| {
        let name = request.job.resource_name.clone();
        Ok(Box::new(ExpiredCertificate::new(clients.iam.clone(), clients.wire.clone(), name, Timestamp::now())))
    },
};

static DESCRIBE_REGIONS: Operation = EC2.operation("DescribeRegions");
static CLASSIC: Service = balancers("2012-06-01");
static CURRENT: Service = balancers("2015-12-01");
static CLASSIC_BALANCERS: Operation = CLASSIC.operation("DescribeLoadBalancers");
static BALANCERS: Operation = CURRENT.operation("DescribeLoadBalancers");
static LISTENERS: Operation = CURRENT.operation("DescribeListeners");
static LISTENER_CERTIFICATES: Operation = CURRENT.operation("DescribeListenerCertificates");

/// Both generations of load balancers have one service, in two versions.
const fn balancers(version: &'static str) -> Service {
    Service::of("elasticloadbalancing", Protocol::Query { version, item: ".member" })
}

/// Where certificates for CloudFront are.
const CLOUDFRONT: &str = "/cloudfront/";

/// The function on one certificate.
#[derive(Debug)]
pub struct ExpiredCertificate {
    client: aws_sdk_iam::Client,
    wire: Wire,
    name: String,
    now: Timestamp,
}

impl ExpiredCertificate {
    /// Of the certificate of this name.
    #[must_use]
    pub const fn new(client: aws_sdk_iam::Client, wire: Wire, name: String, now: Timestamp) -> Self {
        Self { client, wire, name, now }
    }

    /// The listeners that use a certificate, in every Region of the account.
    async fn users(&self, certificate: &str) -> Result<Vec<String>, NativeError> {
        let regions = self.wire.call(&DESCRIBE_REGIONS, &json!({})).await?;
        let regions = regions["regionInfo"].as_array().into_iter().flatten();
        let regions: Vec<&str> = regions.filter_map(|region| region["regionName"].as_str()).collect();
        if regions.is_empty() {
            return Err(NativeError::Refused(
                "EC2 names no Region of the account, so nobody knows who uses the certificate",
            ));
        }
        let mut users = Vec::new();
        for region in regions {
            let wire = self.wire.in_region(region);
            let seen = users_in(&wire, certificate).await;
            users.extend(seen.map_err(|error| {
                NativeError::NotNow(format!("who uses the certificate in {region} could not be looked at: {error}"))
            })?);
        }
        users.sort();
        Ok(users)
    }
}

async fn users_in(wire: &Wire, certificate: &str) -> Result<Vec<String>, AwsFailure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut users = Vec::new();
    for balancer in pages(wire, &CLASSIC_BALANCERS, json!({}), "LoadBalancerDescriptions").await? {
        let listeners = balancer["ListenerDescriptions"].as_array().into_iter().flatten();
        if listeners.into_iter().any(|one| one["Listener"]["SSLCertificateId"] == certificate) {
            users.push(text(&balancer["LoadBalancerName"]));
        }
    }
    for balancer in pages(wire, &BALANCERS, json!({}), "LoadBalancers").await? {
        let of = json!({ "LoadBalancerArn": balancer["LoadBalancerArn"] });
        for listener in pages(wire, &LISTENERS, of, "Listeners").await? {
            if !matches!(listener["Protocol"].as_str(), Some("HTTPS" | "TLS")) {
                continue;
            }
            let of = json!({ "ListenerArn": listener["ListenerArn"] });
            let more = pages(wire, &LISTENER_CERTIFICATES, of, "Certificates").await?;
            let own = listener["Certificates"].as_array().into_iter().flatten();
            if own.chain(&more).any(|one| one["CertificateArn"] == certificate) {
                users.push(text(&listener["ListenerArn"]));
            }
        }
    }
    Ok(users)
}

/// All items of a list that comes in pages.
async fn pages(
    wire: &Wire,
    operation: &'static Operation,
    mut input: Value,
    list: &str,
) -> Result<Vec<Value>, AwsFailure> {
    let mut items = Vec::new();
    loop {
        let answer = wire.call(operation, &input).await?;
        items.extend(answer[list].as_array().into_iter().flatten().cloned());
        match answer["NextMarker"].as_str() {
            Some(marker) => input["Marker"] = marker.into(),
            None => return Ok(items),
        }
    }
}

#[async_trait]
impl Native for ExpiredCertificate {
    async fn inspect(&self) -> Result<Option<Image>, NativeError> {
        let answer = self.client.get_server_certificate().server_certificate_name(&self.name).send().await;
        let answer = match answer.map_err(|error| AwsFailure::of("GetServerCertificate", &error)) {
            Err(failure) if failure.code() == Some("NoSuchEntity") => return Ok(Some(judge::absent())),
            answer => answer?,
        };
        let Some(certificate) = answer.server_certificate() else { return Ok(Some(judge::absent())) };
        let date = |date: Option<&aws_sdk_iam::primitives::DateTime>| {
            date.and_then(|date| Timestamp::from_second(date.secs()).ok())
        };
        let known = certificate.server_certificate_metadata();
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let tags = certificate.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
        let mut state = State {
            name: text(known.map(|known| known.server_certificate_name())),
            path: text(known.map(|known| known.path())),
            id: text(known.map(|known| known.server_certificate_id())),
            arn: text(known.map(|known| known.arn())),
            uploaded: date(known.and_then(|known| known.upload_date())),
            expires: date(known.and_then(|known| known.expiration())),
            certificate_body: certificate.certificate_body().to_owned(),
            certificate_chain: certificate.certificate_chain().map(str::to_owned),
            tags: tags.collect(),
            used_by: Vec::new(),
        };
        if state.is_expired(self.now) && !state.path.starts_with(CLOUDFRONT) {
            state.used_by = self.users(&state.arn).await?;
        }
        Ok(Some(Image { present: true, state: untyped(&state, "the state", DECLARED.name)? }))
    }

    fn plan(&self, now: &Image) -> Result<Change, NativeError> {
        if !now.present {
            return Ok(Change::default());
        }
        let state: State = typed(&now.state, "the state", DECLARED.name)?;
        if !state.is_expired(self.now) {
            return Ok(Change::default());
        }
        if state.path.starts_with(CLOUDFRONT) {
            return Err(NativeError::Refused(
                "the certificate is for CloudFront, whose distributions are not looked at; delete it by hand when none uses it",
            ));
        }
        if !state.used_by.is_empty() {
            let users = state.used_by.join(", ");
            return Err(NativeError::NotNow(format!("it is used by {users}; give that another certificate first")));
        }
        let input = json!({ "ServerCertificateName": self.name });
        Ok(Change(vec![planned(&DECLARED, "iam", "DeleteServerCertificate", &input)?]))
    }

    fn plan_restore(&self, _: &Image, _: &Image) -> Result<Change, NativeError> {
        Err(NativeError::Refused(
            "a deleted certificate cannot be had back, because nobody can read its private key from AWS; whoever has the key \
             can upload it again, with the certificate and its chain from the evidence",
        ))
    }

    async fn call(&self, call: &Call) -> Result<(), NativeError> {
        if call.operation != "DeleteServerCertificate" {
            return Err(NativeError::Form { what: "a call", native: DECLARED.name });
        }
        let deleted = self.client.delete_server_certificate().server_certificate_name(&self.name).send().await;
        deleted.map(drop).map_err(|error| AwsFailure::of("DeleteServerCertificate", &error).into())
    }
}

/// The image's state: all of a certificate that AWS tells, and who uses it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct State {
    name: String,
    path: String,
    id: String,
    arn: String,
    uploaded: Option<Timestamp>,
    expires: Option<Timestamp>,
    certificate_body: String,
    certificate_chain: Option<String>,
    tags: std::collections::BTreeMap<String, String>,
    /// Listeners, and classic load balancers by name; only looked for when it has expired.
    used_by: Vec<String>,
}

impl State {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires < now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::FakeAws;

    const ARN: &str = "arn:aws:iam::111122223333:server-certificate/web/shop";
    const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/shop/1/2";

    fn native(aws: &FakeAws) -> ExpiredCertificate {
        let config = aws.config();
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        ExpiredCertificate::new(aws_sdk_iam::Client::new(&config), Wire::new(config), "shop".to_owned(), now)
    }

    /// IAM's answer, recorded.
    fn certificate(aws: &FakeAws, path: &str, expires: &str) {
        aws.answer("GetServerCertificate", 200, &format!(
            "<GetServerCertificateResponse><GetServerCertificateResult><ServerCertificate><ServerCertificateMetadata>\
             <Path>{path}</Path><ServerCertificateName>shop</ServerCertificateName><Arn>{ARN}</Arn>\
             <ServerCertificateId>ASCA1</ServerCertificateId><UploadDate>2020-01-01T00:00:00Z</UploadDate>\
             <Expiration>{expires}</Expiration></ServerCertificateMetadata><CertificateBody>-----BEGIN</CertificateBody>\
             </ServerCertificate></GetServerCertificateResult></GetServerCertificateResponse>"));
    }

    fn regions(aws: &FakeAws, names: &[&str]) {
        let items: String = names.iter().map(|name| format!("<item><regionName>{name}</regionName></item>")).collect();
        let answer = format!("<DescribeRegionsResponse><regionInfo>{items}</regionInfo></DescribeRegionsResponse>");
        aws.answer("DescribeRegions", 200, &answer);
    }

    fn answers(aws: &FakeAws, operation: &str, result: &str) {
        let answer =
            format!("<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>");
        aws.answer(operation, 200, &answer);
    }

    /// A Region without load balancers.
    fn empty(aws: &FakeAws) {
        answers(aws, "DescribeLoadBalancers", "<LoadBalancerDescriptions/>");
        answers(aws, "DescribeLoadBalancers", "<LoadBalancers/>");
    }

    /// A Region with a load balancer of each generation, and a listener of the newer with two certificates.
    fn balanced(aws: &FakeAws, classic: &str, own: &str, further: &str) {
        answers(
            aws,
            "DescribeLoadBalancers",
            &format!(
                "<LoadBalancerDescriptions><member><LoadBalancerName>old-shop</LoadBalancerName><ListenerDescriptions><member>\
             <Listener><Protocol>HTTPS</Protocol><SSLCertificateId>{classic}</SSLCertificateId></Listener></member>\
             </ListenerDescriptions></member></LoadBalancerDescriptions>"
            ),
        );
        answers(aws, "DescribeLoadBalancers", "<LoadBalancers/><NextMarker>m1</NextMarker>");
        answers(
            aws,
            "DescribeLoadBalancers",
            "<LoadBalancers><member><LoadBalancerArn>arn:b</LoadBalancerArn></member></LoadBalancers>",
        );
        answers(
            aws,
            "DescribeListeners",
            &format!(
                "<Listeners><member><ListenerArn>arn:plain</ListenerArn><Protocol>HTTP</Protocol></member><member><ListenerArn>{LISTENER}</ListenerArn>\
             <Protocol>HTTPS</Protocol><Certificates><member><CertificateArn>{own}</CertificateArn></member></Certificates></member></Listeners>"
            ),
        );
        answers(
            aws,
            "DescribeListenerCertificates",
            &format!(
                "<Certificates><member><CertificateArn>{own}</CertificateArn><IsDefault>true</IsDefault></member>\
             <member><CertificateArn>{further}</CertificateArn></member></Certificates>"
            ),
        );
    }

    #[tokio::test]
    async fn an_expired_certificate_that_no_listener_of_any_region_uses_is_deleted_and_not_had_back() {
        let aws = FakeAws::default();
        let native = native(&aws);
        certificate(&aws, "/web/", "2023-01-01T00:00:00Z");
        regions(&aws, &["eu-central-1", "us-east-1"]);
        empty(&aws);
        balanced(&aws, "arn:other", "arn:other", "arn:other");
        let before = native.inspect().await.unwrap().unwrap();
        let change = native.plan(&before).unwrap();
        assert_eq!(change.0[0].parameters, json!({ "ServerCertificateName": "shop" }));
        assert_eq!((&before.state["CertificateBody"], &before.state["UsedBy"]), (&json!("-----BEGIN"), &json!([])));
        let signed: Vec<String> = aws.seen().iter().map(|seen| seen.headers["authorization"].clone()).collect();
        let asked = |region: &str| {
            signed.iter().filter(|one| one.contains(&format!("/{region}/elasticloadbalancing/"))).count()
        };
        assert_eq!((asked("eu-central-1"), asked("us-east-1")), (2, 5), "{signed:?}");

        aws.answer("DeleteServerCertificate", 200, "<DeleteServerCertificateResponse/>");
        native.call(&change.0[0]).await.unwrap();
        let gone = "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>no</Message></Error></ErrorResponse>";
        aws.answer("GetServerCertificate", 404, gone);
        let after = native.inspect().await.unwrap().unwrap();
        assert!(!after.present && native.compliant(&after));
        assert!(native.plan_restore(&after, &before).unwrap_err().to_string().contains("cannot be had back"));
    }

    #[tokio::test]
    async fn what_a_listener_uses_in_whatever_way_stays() {
        for (classic, own, further, user) in [
            (ARN, "arn:other", "arn:other", "old-shop"),
            ("arn:other", ARN, "arn:other", LISTENER),
            ("arn:other", "arn:other", ARN, LISTENER),
        ] {
            let aws = FakeAws::default();
            certificate(&aws, "/web/", "2023-01-01T00:00:00Z");
            regions(&aws, &["eu-west-1"]);
            balanced(&aws, classic, own, further);
            let native = native(&aws);
            let now = native.inspect().await.unwrap().unwrap();
            let refused = native.plan(&now).unwrap_err().to_string();
            assert!(refused.contains(&format!("used by {user};")), "{refused}");
        }
    }

    #[tokio::test]
    async fn where_nobody_can_look_nothing_is_deleted() {
        let aws = FakeAws::default();
        certificate(&aws, "/web/", "2023-01-01T00:00:00Z");
        regions(&aws, &["eu-central-1", "ap-east-1"]);
        empty(&aws);
        let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>an SCP</Message></Error></ErrorResponse>";
        aws.answer("DescribeLoadBalancers", 403, denied);
        let failed = native(&aws).inspect().await.unwrap_err().to_string();
        assert!(failed.contains("in ap-east-1 could not be looked at"), "{failed}");

        let aws = FakeAws::default();
        certificate(&aws, "/web/", "2023-01-01T00:00:00Z");
        regions(&aws, &[]);
        assert!(native(&aws).inspect().await.unwrap_err().to_string().contains("names no Region"));
    }

    #[tokio::test]
    async fn what_is_valid_or_for_cloudfront_is_left_alone_and_nobody_is_asked_who_uses_it() {
        let aws = FakeAws::default();
        let native = native(&aws);
        certificate(&aws, "/web/", "2027-01-01T00:00:00Z");
        let valid = native.inspect().await.unwrap().unwrap();
        assert!(native.compliant(&valid));
        certificate(&aws, "/cloudfront/web/", "2023-01-01T00:00:00Z");
        let of_cloudfront = native.inspect().await.unwrap().unwrap();
        assert!(native.plan(&of_cloudfront).unwrap_err().to_string().contains("CloudFront"));
        assert_eq!(aws.seen().len(), 2);
    }
}

//! Test support: S3 and KMS behind the real SDK clients, so that the real evidence writer is what is tested.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region as SdkRegion, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_types::SdkConfig;
use aws_types::sdk_config::RetryConfig;
use redress_common::aws::evidence::{EvidenceStore, EvidenceWriter, Lock, s3_client};
use redress_common::contract::{Before, Evidence, Image, Job, Mode, RemediateRequest};
use redress_common::ids::RemediationId;
use serde_json::{Value, json};

use crate::place::Place;

pub(crate) const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-central-1";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/member";

/// An `Apply` job on a resource.
pub(crate) fn job(arn: &str) -> Job {
    Job {
        remediation_id: RemediationId::of_rejected(arn.as_bytes()),
        control: "S3.8".parse().unwrap(),
        resource_arn: arn.parse().unwrap(),
        resource_name: arn.rsplit(['/', ':']).next().unwrap().to_owned(),
        mode: Mode::Apply,
        fence: "1".to_owned(),
        evidence_key: "year=2026/month=01/day=02/remediation-1.json".to_owned(),
        source_evidence_key: String::new(),
        plan_sha256: String::new(),
    }
}

/// The request to run a native function or a playbook on a resource.
pub(crate) fn request(native: &str, arn: &str, parameters: Value) -> RemediateRequest {
    RemediateRequest {
        job: job(arn),
        native: native.to_owned(),
        account_id: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        copy: None,
    }
}

/// The job that undoes another.
pub(crate) fn undo_of(job: &Job) -> Job {
    Job {
        remediation_id: RemediationId::of_rejected(b"undo"),
        mode: Mode::Restore,
        evidence_key: "year=2026/month=01/day=03/remediation-2.json".to_owned(),
        source_evidence_key: job.evidence_key.clone(),
        plan_sha256: String::new(),
        ..job.clone()
    }
}

pub(crate) fn here() -> Place {
    let function = "arn:aws:lambda:eu-central-1:111122223333:function:redress-contain-ec2:7".to_owned();
    Place { account: ACCOUNT.parse().unwrap(), region: REGION.parse().unwrap(), function }
}

/// The same, as the function that destroys.
pub(crate) fn at_destroyer() -> Place {
    let function = "arn:aws:lambda:eu-central-1:111122223333:function:redress-destroy:7".to_owned();
    Place { function, ..here() }
}

/// One call that reached AWS.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// The path and what follows it, of the services that name their operations by it.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct World {
    objects: BTreeMap<String, (u32, Vec<u8>)>,
    data_keys: Vec<Value>,
    puts: u32,
    seen: Vec<Seen>,
    lose_next_put: bool,
    canned: Vec<(String, u16, String)>,
}

/// S3 (conditional writes), KMS (encryption context) and canned answers for the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeAws(Arc<Mutex<World>>);

impl FakeAws {
    pub(crate) fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(SdkRegion::new(REGION))
            .endpoint_url("http://aws.invalid")
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .retry_config(RetryConfig::standard().with_max_attempts(1))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build()
    }

    pub(crate) fn writer(&self) -> EvidenceWriter {
        EvidenceWriter::new(&self.config(), "bucket".to_owned(), &KEY.parse().unwrap()).unwrap()
    }

    /// One that keeps what is taken of incidents.
    pub(crate) fn keeper(&self) -> EvidenceWriter {
        self.writer().with_lock(Lock::parse("365", "GOVERNANCE").unwrap())
    }

    /// What is stored under a key of the bucket.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        let world = self.0.lock().unwrap();
        // As it stands in a URL.
        let key = key.replace('=', "%3D");
        let found = world.objects.iter().find(|(path, _)| path.replace('=', "%3D").ends_with(&key));
        found.map(|(_, (_, body))| body.clone())
    }

    /// As the command line reads it.
    pub(crate) fn store(&self) -> EvidenceStore {
        let config = self.config();
        let kms = aws_sdk_kms::Client::new(&config);
        EvidenceStore::new(s3_client(&config, &here().region), kms, "bucket".to_owned(), here().account)
    }

    pub(crate) async fn evidence(&self, job: &Job) -> (Evidence, Before, Option<Image>) {
        let store = self.store();
        let evidence = store.read(&job.evidence_key).await.unwrap().evidence;
        let before = store.open_before(&evidence).await.unwrap();
        let after = store.open_after(&evidence).await.unwrap();
        (evidence, before, after)
    }

    /// The next PutObject is done, but its answer is lost.
    pub(crate) fn lose_next_put(&self) {
        self.0.lock().unwrap().lose_next_put = true;
    }

    /// Answers the next call whose name ends like this. Later ones come later.
    pub(crate) fn answer(&self, name: &str, status: u16, body: &str) {
        self.0.lock().unwrap().canned.push((name.to_owned(), status, body.to_owned()));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().seen.clone()
    }

    /// The text of every call and object, to look for what must not be there.
    pub(crate) fn everything(&self) -> String {
        let world = self.0.lock().unwrap();
        let objects = world.objects.values().map(|(_, body)| String::from_utf8_lossy(body).into_owned());
        objects.chain(world.seen.iter().map(|seen| format!("{:?}", seen.headers))).collect()
    }
}

impl World {
    fn respond(&mut self, seen: &Seen, path: &str) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        let header = |name: &str| seen.headers.get(name).map(String::as_str);
        let at = self.canned.iter().position(|(name, ..)| seen.name.ends_with(name.as_str()));
        if let Some(at) = at {
            let (_, status, body) = self.canned.remove(at);
            return (status, vec![], body.into_bytes());
        }
        match seen.name.as_str() {
            "PUT" => {
                let etag = self.objects.get(path).map(|(etag, _)| format!("\"{etag}\""));
                let refused = match (header("if-none-match"), header("if-match")) {
                    (Some("*"), None) => etag.is_some(),
                    (None, Some(wanted)) => etag.as_deref() != Some(wanted),
                    other => panic!("an unconditional or odd put: {other:?}"),
                };
                if refused {
                    return (412, vec![], b"<Error><Code>PreconditionFailed</Code></Error>".to_vec());
                }
                self.puts += 1;
                self.objects.insert(path.to_owned(), (self.puts, seen.body.clone()));
                if std::mem::take(&mut self.lose_next_put) {
                    return (500, vec![], b"<Error><Code>InternalError</Code></Error>".to_vec());
                }
                (200, vec![("etag", format!("\"{}\"", self.puts))], vec![])
            }
            "GET" => match self.objects.get(path) {
                Some((etag, body)) => (200, vec![("etag", format!("\"{etag}\""))], body.clone()),
                None => (404, vec![], b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
            "TrentService.GenerateDataKey" => {
                let request: Value = serde_json::from_slice(&seen.body).unwrap();
                let number = self.data_keys.len();
                self.data_keys.push(request["EncryptionContext"].clone());
                let plain = format!("{}=", "A".repeat(43));
                let answer = json!({ "KeyId": KEY, "Plaintext": plain, "CiphertextBlob": format!("{number:08}") });
                (200, vec![], answer.to_string().into_bytes())
            }
            "TrentService.Decrypt" => {
                let request: Value = serde_json::from_slice(&seen.body).unwrap();
                let number: usize = request["CiphertextBlob"].as_str().unwrap().parse().unwrap();
                if request["EncryptionContext"] != self.data_keys[number] || request["KeyId"] != KEY {
                    return (400, vec![], br#"{"__type":"InvalidCiphertextException"}"#.to_vec());
                }
                let answer = json!({ "KeyId": KEY, "Plaintext": format!("{}=", "A".repeat(43)) });
                (200, vec![], answer.to_string().into_bytes())
            }
            other => panic!("nobody answers {other} {path}"),
        }
    }
}

impl HttpConnector for FakeAws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let headers: BTreeMap<String, String> =
            request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let whole = request.uri().trim_start_matches("http://aws.invalid").to_owned();
        let path = request.uri().split('?').next().unwrap().to_owned();
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let action =
            String::from_utf8_lossy(&body).split('&').find_map(|pair| pair.strip_prefix("Action=").map(str::to_owned));
        let name = headers.get("x-amz-target").cloned().or(action).unwrap_or_else(|| request.method().to_owned());
        let seen = Seen { name, path: whole, headers, body };
        let mut world = self.0.lock().unwrap();
        let (status, headers, body) = world.respond(&seen, &path);
        world.seen.push(seen);
        let mut response = HttpResponse::new(status.try_into().unwrap(), body.into());
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// What IAM tells of user alice, as it does: the answers to the next calls.
pub(crate) mod iam {
    use super::FakeAws;

    pub(crate) const USER: &str = "arn:aws:iam::111122223333:user/team/alice";

    /// IAM knows her.
    pub(crate) fn user(aws: &FakeAws) {
        aws.answer(
            "GetUser",
            200,
            &format!(
                "<GetUserResponse><GetUserResult><User><Path>/team/</Path><UserName>alice</UserName>\
                 <UserId>AIDA1</UserId><Arn>{USER}</Arn>\
                 <CreateDate>2020-01-01T00:00:00Z</CreateDate></User></GetUserResult></GetUserResponse>"
            ),
        );
    }

    /// She has no policy of ours.
    pub(crate) fn no_policy(aws: &FakeAws) {
        aws.answer(
            "GetUserPolicy",
            404,
            "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>The user policy with name \
             redress-contain cannot be found.</Message></Error></ErrorResponse>",
        );
    }

    /// The policy of ours that she has.
    pub(crate) fn policy(aws: &FakeAws, text: &str) {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        aws.answer(
            "GetUserPolicy",
            200,
            &format!(
                "<GetUserPolicyResponse><GetUserPolicyResult><UserName>alice</UserName><PolicyName>redress-contain\
                 </PolicyName><PolicyDocument>{encoded}</PolicyDocument></GetUserPolicyResult></GetUserPolicyResponse>"
            ),
        );
    }

    /// Her keys, each with its status.
    pub(crate) fn keys(aws: &FakeAws, keys: &[(&str, &str)]) {
        let members: String = keys
            .iter()
            .map(|(id, status)| {
                format!(
                    "<member><UserName>alice</UserName><AccessKeyId>{id}</AccessKeyId><Status>{status}</Status>\
                     <CreateDate>2026-01-01T00:00:00Z</CreateDate></member>"
                )
            })
            .collect();
        aws.answer(
            "ListAccessKeys",
            200,
            &format!(
                "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>{members}</AccessKeyMetadata>\
                 <IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>"
            ),
        );
    }
}

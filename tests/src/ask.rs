//! Asking as people do (the operator's event, a custom action), and what ledger, evidence and the lab's call record
//! then say of it.
//!
//! Nothing here knows a control.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use redress_common::arn::Arn;
use redress_common::aws::envelope::{Context, DataKey};
use redress_common::contract::{Before, Evidence, Image, Mode, Outcome, Sealed};
use redress_common::ids::{AccountId, ClaimKey, ControlId, RemediationId};
use redress_common::names;
use redress_common::state::State;
use redress_lab::record::Call;
use redress_lab::service::Credentials;
use redress_lab::services::securityhub::ControlCheck;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, binaries};

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// The account.
    pub account: String,
    /// The control.
    pub control: String,
    /// The resource.
    pub arn: String,
}

/// A remediation that has ended, as the ledger tells it.
#[derive(Debug)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Its records, oldest first.
    pub records: Vec<Value>,
}

impl Ended {
    /// The states that it went through.
    #[must_use]
    pub fn states(&self) -> Vec<&str> {
        self.records.iter().filter_map(|record| record["ExecutionStatus"].as_str()).collect()
    }

    /// What its last record says.
    #[must_use]
    pub fn last(&self) -> &Value {
        self.records.last().unwrap_or(&Value::Null)
    }

    /// What the member account said.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.last()["Detail"]["Outcome"].as_str().unwrap_or_default()
    }

    /// Why people are told and nothing is done.
    #[must_use]
    pub fn code(&self) -> &str {
        self.last()["Detail"]["Code"].as_str().unwrap_or_default()
    }

    /// What failed.
    #[must_use]
    pub fn error(&self) -> &str {
        self.last()["ErrorMessage"].as_str().unwrap_or_default()
    }
}

/// Evidence in the clear.
#[derive(Debug)]
pub struct Opened {
    /// Pre-image and change.
    pub before: Before,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The post-image.
    pub after: Option<Image>,
}

impl Opened {
    /// The operations of the change, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<&str> {
        self.before.change.0.iter().map(|call| call.operation.as_str()).collect()
    }
}

#[expect(clippy::panic, reason = "without these there is no test")]
impl World {
    /// A session of a role.
    ///
    /// # Panics
    /// When the role does not let `by` in.
    pub async fn assume(&self, by: &Credentials, role_arn: &str, external_id: Option<&str>) -> Credentials {
        self.assume_as("somebody", by, role_arn, external_id).await
    }

    async fn assume_as(&self, who: &str, by: &Credentials, role_arn: &str, external_id: Option<&str>) -> Credentials {
        let mut asked = json!({ "RoleArn": role_arn, "RoleSessionName": who });
        if let Some(id) = external_id {
            asked["ExternalId"] = id.into();
        }
        let answer = self.bed.lab.aws().call(by, self.region(), "sts", "AssumeRole", asked).await;
        match answer.map(|answer| serde_json::from_value(answer["Credentials"].clone())) {
            Ok(Ok(credentials)) => credentials,
            other => panic!("{role_arn} was not assumed: {other:?}"),
        }
    }

    /// A session of the role that people work with.
    pub async fn operator(&self) -> Credentials {
        self.operator_called("somebody").await
    }

    /// The same, of somebody of that name.
    pub async fn operator_called(&self, who: &str) -> Credentials {
        self.person(who, names::OPERATOR_ROLE).await
    }

    /// A session of one of the roles that people work with, of somebody of that name.
    ///
    /// # Panics
    /// When the role lets nobody in.
    pub async fn person(&self, who: &str, role: &str) -> Credentials {
        let organisation = &self.bed.organisation;
        let admin = &organisation.administrator.id;
        let role = names::role_arn(organisation.partition(), admin, role);
        self.assume_as(who, &Credentials::root(admin.as_str()), &role, None).await
    }

    /// What `redress` says, run as an operator.
    pub async fn redress(&self, arguments: &[String], variables: &[(&str, &str)]) -> Output {
        self.redress_as(&self.operator().await, arguments, variables).await
    }

    /// The same, run by somebody.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn redress_as(&self, by: &Credentials, arguments: &[String], variables: &[(&str, &str)]) -> Output {
        self.command(by, Path::new("."), arguments, variables).await
    }

    /// What `redress` says, run as an operator in a folder: what it takes for the running lab lies there.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn redress_in(&self, folder: &Path, arguments: &[String], variables: &[(&str, &str)]) -> Output {
        self.command(&self.operator().await, folder, arguments, variables).await
    }

    #[expect(clippy::expect_used, reason = "without the command there is no test")]
    async fn command(
        &self,
        by: &Credentials,
        folder: &Path,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Output {
        let mut command = Command::new(binaries().join("redress"));
        command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("AWS_ENDPOINT_URL", self.bed.lab.endpoint())
            .env("AWS_REGION", self.region())
            .env("AWS_ACCESS_KEY_ID", &by.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &by.secret_access_key)
            .env("AWS_SESSION_TOKEN", by.session_token.as_deref().unwrap_or_default())
            .envs(variables.iter().copied());
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("it was not cancelled").expect("redress is built")
    }

    /// The organisation's Region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.bed.organisation.region.as_str()
    }

    /// Asks for a remediation or a dry run as an operator does, and waits for its end.
    pub async fn remediate(&self, target: &Target, mode: Mode) -> Ended {
        let (request, since) = self.requested(target, mode).await;
        let what = format!("{mode:?} of {} on {} ends", target.control, target.arn);
        self.ended_since(&target.account, since, &what, |record| text(record, "FindingId").contains(&request)).await
    }

    /// Asks for a remediation of a resource in an account that is not the resource's, and waits for the answer. Where the
    /// ARN shows it, neither account is believed: it is written on the administrator's chain.
    pub async fn remediate_elsewhere(&self, target: &Target) -> Ended {
        let (request, since) = self.requested(target, Mode::Apply).await;
        let arn: Option<Arn> = target.arn.parse().ok();
        let owner = arn.as_ref().and_then(Arn::account);
        let chain = if owner.is_some() { self.administrator() } else { target.account.clone() };
        let what = format!("{} on {} in account {} is refused", target.control, target.arn, target.account);
        let names_both = |record: &Value| {
            let reason = record["Detail"]["Reason"].as_str().unwrap_or_default();
            owner.is_some_and(|owner| reason.contains(owner.as_str()) && reason.contains(&target.account))
        };
        let is_its = |record: &Value| text(record, "FindingId").contains(&request) || names_both(record);
        self.ended_since(&chain, since, &what, is_its).await
    }

    /// Asks for a remediation that people must approve: when they are asked, somebody else says yes to its exact plan. What
    /// ends without a question, because nothing is to be done, is nobody's to approve.
    ///
    /// # Panics
    /// When the answer is refused.
    pub async fn remediate_approved(&self, target: &Target) -> Ended {
        let (request, since) = self.requested(target, Mode::Apply).await;
        let what = format!("{} on {} is decided", target.control, target.arn);
        let is_its = |record: &Value| text(record, "FindingId").contains(&request);
        let records = self.ledger_since_when(&target.account, since, &what, is_its).await;
        // Its plan and its copies are remediations of their own, and come later.
        let id = records.iter().find(|record| is_its(record)).map(|record| text(record, "RemediationId").to_owned());
        let is_it = |record: &Value| id.as_deref() == record["RemediationId"].as_str();
        let is_asked =
            |record: &Value| record["ExecutionStatus"] == "AwaitingApproval" && record["NotificationSent"] == true;
        let what = format!("people are asked about {} on {}", target.control, target.arn);
        let holds = |record: &Value| is_it(record) && (is_asked(record) || is_end(record));
        let records = self.ledger_since_when(&target.account, since, &what, holds).await;
        if let Some(question) = records.iter().find(|record| is_it(record) && is_asked(record)) {
            let answer = json!({
                "Operation": "Answer", "RemediationId": question["RemediationId"], "Approve": true,
                "PlanSha256": question["Detail"]["PlanSha256"], "Reason": "a test looked at it",
            });
            let second = self.operator_called("somebody-else").await;
            let url = self.api_url(&second).await;
            let (status, said) = self.asks_as(&second, &url, &answer).await;
            assert_eq!(status, 200, "{answer} was refused: {said}");
        }
        let what = format!("{} on {} ends", target.control, target.arn);
        self.ended_since(&target.account, since, &what, is_it).await
    }

    /// Puts a request on the bus as an operator: how it is known, and since when.
    async fn requested(&self, target: &Target, mode: Mode) -> (String, i64) {
        let (request, since) = (Uuid::new_v4().to_string(), a_moment_ago());
        let asked = json!({
            "Operation": "Remediate", "Control": target.control, "AccountId": target.account, "Region": self.region(),
            "ResourceArn": target.arn, "Mode": mode, "Reason": "a test asks", "RequestId": request,
        });
        self.operate(asked).await;
        (request, since)
    }

    /// Asks for the undo of a remediation as an operator does, and waits for its end.
    ///
    /// # Panics
    /// When the target is none.
    pub async fn undo(&self, target: &Target, remediation: &str) -> Ended {
        let (request, since) = (Uuid::new_v4().to_string(), a_moment_ago());
        let key =
            match (target.account.parse::<AccountId>(), target.control.parse::<ControlId>(), target.arn.parse::<Arn>())
            {
                (Ok(account), Ok(control), Ok(arn)) => {
                    ClaimKey::new(&account, &self.bed.organisation.region, &control, &arn)
                }
                other => panic!("{target:?}: {other:?}"),
            };
        let id = RemediationId::of_request(&key, &request).to_string();
        let asked = json!({
            "Operation": "Undo", "RemediationId": remediation, "Reason": "a test asks", "RequestId": request,
        });
        self.operate(asked).await;
        let what = format!("the undo of {remediation} ends");
        self.ended_since(&target.account, since, &what, |record| record["RemediationId"] == id).await
    }

    /// The member's Security Hub finds the control failed on the target, and says so to the organisation: its finding.
    pub async fn found_failed(&self, target: &Target) -> String {
        let (asff_type, id) = asff(target);
        let check = ControlCheck {
            account: &target.account,
            region: self.region(),
            control: &target.control,
            title: "as the control says",
            severity: "HIGH",
            rule: "securityhub-test",
            resource_type: asff_type,
            resource_id: &id,
            passed: false,
            at: Timestamp::now(),
        };
        self.bed.security_hub.control_checked(&check, &*self.bed.lab.aws()).await;
        let name = format!("{}/{}/{}/{id}", target.account, self.region(), target.control);
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        format!(
            "arn:aws:securityhub:{}:{}:security-control/{}/finding/{id}",
            self.region(),
            target.account,
            target.control
        )
    }

    /// Chooses a custom action on a finding, as somebody does in the administrator's console, and waits for its end.
    ///
    /// # Panics
    /// When there is no such action or finding.
    pub async fn choose(&self, target: &Target, action: &str, finding: &str) -> Ended {
        let since = self.ids(&target.account).await;
        let (aws, admin) = (self.bed.lab.aws(), self.bed.organisation.administrator.id.as_str());
        let chosen =
            self.bed.security_hub.choose_action(&*aws, admin, self.region(), action, &[finding.to_owned()]).await;
        if let Err(error) = chosen {
            panic!("{action} on {finding}: {error}");
        }
        let is_its = |record: &Value| {
            record["FindingId"] == finding
                && record["RemediationType"] == "Manual"
                && !since.iter().any(|id| record["RemediationId"] == **id)
        };
        self.ended(&target.account, &format!("{action} on {finding} ends"), is_its).await
    }

    async fn ids(&self, account: &str) -> Vec<String> {
        self.ledger(account).await.iter().map(|record| text(record, "RemediationId").to_owned()).collect()
    }

    /// The end of the remediation that has such a record.
    pub async fn ended(&self, account: &str, what: &str, is_its: impl Fn(&Value) -> bool) -> Ended {
        self.ended_since(account, 0, what, is_its).await
    }

    async fn ended_since(&self, account: &str, since: i64, what: &str, is_its: impl Fn(&Value) -> bool) -> Ended {
        let holds = |record: &Value| is_its(record) && is_end(record);
        let records = self.ledger_since_when(account, since, what, holds).await;
        let id = records.iter().find(|record| is_its(record)).map(|record| text(record, "RemediationId").to_owned());
        let id = id.unwrap_or_default();
        Ended { records: records.into_iter().filter(|record| record["RemediationId"] == id).collect(), id }
    }

    /// The evidence that a remediation left, read and decrypted as an operator does.
    ///
    /// # Panics
    /// When it is not there or does not open.
    pub async fn evidence(&self, account: &str, ended: &Ended) -> Opened {
        let organisation = &self.bed.organisation;
        let (Ok(account), Ok(id)) = (account.parse::<AccountId>(), ended.id.parse::<RemediationId>()) else {
            panic!("{account}, {ended:?}");
        };
        let role = names::role_arn(organisation.partition(), &account, names::EVIDENCE_READER_ROLE);
        let reader =
            self.assume(&self.operator().await, &role, Some(organisation.external_id(&account).reveal())).await;
        let bucket = names::evidence_bucket(&account, &organisation.region);
        let get = json!({ "Bucket": bucket, "Key": ended.last()["Detail"]["EvidenceKey"] });
        let object = match self.bed.lab.aws().call(&reader, self.region(), "s3", "GetObject", get).await {
            Ok(object) => object,
            Err(error) => panic!("the evidence of {}: {error}; {:#}", ended.id, ended.last()),
        };
        let evidence: Evidence = read(object["Body"].as_str().unwrap_or_default().as_bytes());
        Opened {
            before: read(&self.unsealed(&reader, id, &account, &evidence.before).await),
            outcome: evidence.result.as_ref().map(|result| result.outcome),
            after: match &evidence.result {
                Some(result) => Some(read(&self.unsealed(&reader, id, &account, &result.after).await)),
                None => None,
            },
        }
    }

    async fn unsealed(&self, reader: &Credentials, id: RemediationId, account: &AccountId, sealed: &Sealed) -> Vec<u8> {
        let decrypt = json!({
            "KeyId": sealed.key_id, "CiphertextBlob": sealed.encrypted_data_key,
            "EncryptionContext": { "RemediationId": id, "AccountId": account },
        });
        let answer = self.bed.lab.aws().call(reader, self.region(), "kms", "Decrypt", decrypt).await;
        let answer = answer.unwrap_or_else(|error| panic!("KMS does not decrypt: {error}"));
        let key = STANDARD.decode(answer["Plaintext"].as_str().unwrap_or_default()).unwrap_or_default();
        let opened = DataKey::new(&sealed.key_id, key, Vec::new())
            .and_then(|key| key.open(&Context::new(id, account.clone()), sealed));
        match opened {
            Ok(plain) => plain.as_bytes().to_vec(),
            Err(error) => panic!("the envelope does not open: {error}"),
        }
    }

    /// The operations by which roles changed anything in an account since a mark of the call record, in order, but
    /// for Redress's own book-keeping.
    #[must_use]
    pub fn changes_since(&self, account: &str, mark: u64) -> Vec<String> {
        let calls = self.bed.lab.record().calls_since(mark);
        let changing = calls.iter().filter(|call| call.account == account && changes(call));
        changing.map(|call| call.operation.clone()).collect()
    }
}

fn is_end(record: &Value) -> bool {
    text(record, "ExecutionStatus").parse::<State>().is_ok_and(State::is_terminal)
}

/// When a request that is made now can have its first record, in Unix milliseconds.
fn a_moment_ago() -> i64 {
    Timestamp::now().as_millisecond() - 1000
}

/// Whether a call by a role changes something that is not Redress's own.
fn changes(call: &Call) -> bool {
    let reads = ["BatchGet", "Get", "List", "Describe", "Head"].iter().any(|verb| call.operation.starts_with(verb));
    let by_role = call.principal.contains(":assumed-role/");
    by_role && !reads && !is_book_keeping(call)
}

/// The calls by which a remediation runs and leaves its evidence.
fn is_book_keeping(call: &Call) -> bool {
    let on = |part: &str| call.checks.iter().any(|check| check.resource.contains(part));
    let evidence = || on(":::security-remediation-logs-");
    match (call.service.as_str(), call.operation.as_str()) {
        ("sts", "AssumeRole") | ("ssm", "StartAutomationExecution") | ("lambda", "Invoke") => true,
        ("events", "PutEvents") | ("kms", "GenerateDataKey" | "Decrypt") => true,
        ("logs", "CreateLogStream" | "PutLogEvents") => true,
        ("logs", _) => on(":log-group:/aws/lambda/redress-"),
        ("s3", "PutObject") => evidence(),
        _ => false,
    }
}

/// How Security Hub names a resource.
fn asff(target: &Target) -> (&'static str, String) {
    let service = target.arn.split(':').nth(2).unwrap_or_default();
    match service {
        "s3" => ("AwsS3Bucket", target.arn.clone()),
        "kms" => ("AwsKmsKey", target.arn.clone()),
        "ec2" => ("AwsEc2SecurityGroup", target.arn.clone()),
        _ => ("AwsAccount", format!("AWS::::Account:{}", target.account)),
    }
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

#[expect(clippy::panic, reason = "evidence that is no evidence fails the test")]
fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => panic!("not what Redress writes: {error}"),
    }
}

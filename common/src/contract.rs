//! What passes between the administrator account and a member account, and between a member's runbooks
//! and its functions. A field added here is seen by both sides or by neither.
//!
//! Field names are PascalCase on the wire, as in every AWS API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arn::Arn;
use crate::custody::Item;
use crate::ids::{AccountId, ClaimKey, ControlId, Region, RemediationId};

/// What a runbook is asked to do. The default of every document is `DryRun`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Say what would be changed; change nothing.
    #[default]
    DryRun,
    /// Store the pre-image, change, verify.
    Apply,
    /// Put the pre-image of an earlier remediation back, unless the resource drifted since.
    Restore,
    /// Make the copies that a later `Apply` of the same plan works from; the resource itself stays as it is.
    Snapshot,
}

impl Mode {
    /// As the runbook's `Mode` parameter writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "DryRun",
            Self::Apply => "Apply",
            Self::Restore => "Restore",
            Self::Snapshot => "Snapshot",
        }
    }
}

/// How a remediation ended, seen from the member account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// `DryRun`: the change was worked out and not made.
    Planned,
    /// The resource held what the control asks for before anything was done; nothing was changed.
    AlreadyCompliant,
    /// Changed, and read back as it should be.
    Verified,
    /// Changed, but the read-back does not show it. Undoable.
    Unverified,
    /// The pre-image was put back, and read back equal to it.
    Restored,
    /// `Snapshot`: the copies are made and complete; the resource was not changed.
    Snapshotted,
    /// `Restore` found the resource changed by somebody else since; nothing was changed.
    Drifted,
    /// The resource does not exist (any more); nothing was changed.
    NotFound,
    /// It could not be done; `Error` says why. What was changed before can be undone.
    Failed,
}

impl Outcome {
    /// As the evidence object's metadata and the runbook's outputs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "Planned",
            Self::AlreadyCompliant => "AlreadyCompliant",
            Self::Verified => "Verified",
            Self::Unverified => "Unverified",
            Self::Restored => "Restored",
            Self::Snapshotted => "Snapshotted",
            Self::Drifted => "Drifted",
            Self::NotFound => "NotFound",
            Self::Failed => "Failed",
        }
    }
}

/// The state of a resource as a control reads it, before or after.
///
/// `present` is false when there is no such setting at all, which is not the same as an empty one: undoing
/// must delete what was not there. `state` is what the control's inspect calls returned and selected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Image {
    /// Whether the setting exists.
    #[serde(deserialize_with = "from_ssm::boolean")]
    pub present: bool,
    /// The selected parts of what AWS answered; an empty object when not present.
    #[serde(deserialize_with = "from_ssm::object")]
    pub state: Value,
}

/// SSM fills a step's input from variables, which may come as their text: a boolean as `"true"`, a map as its
/// JSON. These two are taken in both forms; everything else in one. An absent key comes as [`super::NO_SOURCE`].
mod from_ssm {
    use serde::de::{Deserialize, Deserializer, Error, Unexpected};
    use serde_json::Value;

    pub(super) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let key = String::deserialize(deserializer)?;
        Ok(if key == super::NO_SOURCE { String::new() } else { key })
    }

    pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(value) => Ok(value),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(D::Error::invalid_value(Unexpected::Other("another value"), &"true or false")),
        }
    }

    pub(super) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let value = match Value::deserialize(deserializer)? {
            Value::String(text) => serde_json::from_str(&text).unwrap_or_default(),
            value => value,
        };
        match value {
            Value::Object(_) => Ok(value),
            _ => Err(D::Error::invalid_value(Unexpected::Other("another value"), &"an object")),
        }
    }
}

/// One mutating AWS call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Call {
    /// The service, by its SDK name: `s3`, `ec2`.
    pub service: String,
    /// The operation: `PutPublicAccessBlock`.
    pub operation: String,
    /// Its parameters, by their API names.
    pub parameters: Value,
}

/// The exact change that a remediation makes: its mutating calls, in order. Empty when nothing is to be done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Change(pub Vec<Call>);

/// The input of the member's `redress-recorder` function. Sent by the steps of an API-shaped runbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Verb")]
pub enum RecorderRequest {
    /// Before the change (or for a dry run): store pre-image and planned change, create-only.
    Prepare(Prepare),
    /// After it: add outcome and post-image to the evidence.
    Finish(Finish),
    /// For `Restore`: read the source remediation's pre-image, check drift, and store what is there now.
    Load(Prepare),
}

/// What the recorder needs before a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Prepare {
    /// What the runbook was started with.
    #[serde(flatten)]
    pub job: Job,
    /// The state now: the pre-image.
    #[serde(flatten)]
    pub image: Image,
    /// The calls that would be made; for `Load`, empty.
    #[serde(default)]
    pub change: Change,
}

/// What the recorder needs after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finish {
    /// What the runbook was started with.
    #[serde(flatten)]
    pub job: Job,
    /// How it ended.
    pub outcome: Outcome,
    /// The state now: the post-image.
    #[serde(flatten)]
    pub image: Image,
    /// What failed, when something did. Never holds a secret: it is AWS's error message.
    #[serde(default)]
    pub error: String,
    /// The state could not be read: the image says nothing.
    #[serde(default)]
    pub unread: bool,
    /// Of an undo that does not read back: answer [`AGAIN`] and record nothing, it is read once more.
    #[serde(default)]
    pub patient: bool,
}

/// The recorder's decision to look once more.
pub const AGAIN: &str = "Again";

/// What every runbook and function of one remediation is told. All of it comes from the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// The remediation.
    pub remediation_id: RemediationId,
    /// The control.
    pub control: ControlId,
    /// The resource's ARN.
    pub resource_arn: Arn,
    /// The resource's name, captured from its ARN by the control's pattern.
    pub resource_name: String,
    /// What to do.
    pub mode: Mode,
    /// The claim's fence, decimal.
    pub fence: String,
    /// Where this remediation's evidence goes.
    pub evidence_key: String,
    /// For `Restore`: where the evidence of the remediation to undo lies. Empty otherwise, and [`NO_SOURCE`] on the
    /// wire: SSM takes no empty parameter.
    #[serde(default, deserialize_with = "from_ssm::key")]
    pub source_evidence_key: String,
    /// [`plan_sha256`] of the plan that was approved: nothing else may be done. Empty when nobody had to approve, and
    /// [`NO_SOURCE`] on the wire.
    #[serde(default, deserialize_with = "from_ssm::key")]
    pub plan_sha256: String,
}

/// The hash that an approval is bound to: of the state that was found, and of the change that was worked out from it.
#[must_use]
pub fn plan_sha256(pre_image_sha256: &str, change_sha256: &str) -> String {
    crate::ledger::sha256_hex(format!("{pre_image_sha256}\n{change_sha256}").as_bytes())
}

/// The remediation, derived from the one that works from them, under which [`Mode::Snapshot`] makes its copies.
/// Both accounts know it: the copies carry it as a tag.
#[must_use]
pub fn snapshot_id(claim: &ClaimKey, of: RemediationId) -> RemediationId {
    RemediationId::of_request(claim, &format!("snapshot:{of}"))
}

/// What stands for "no evidence to restore from" and "no approved plan" in a runbook's parameter.
pub const NO_SOURCE: &str = "none";

/// The recorder's answer. Every field is always there, so that a runbook may select it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecorderResponse {
    /// `Proceed`, or the outcome with which the runbook must end now (`Drifted`).
    pub decision: String,
    /// For `Load`: whether the pre-image was there (`true` or `false`).
    pub present: bool,
    /// For `Load`: the pre-image's state, to restore; an empty object otherwise.
    pub state: Value,
    /// SHA-256 of the canonical JSON of the change, hexadecimal: what an approval binds to.
    pub change_sha256: String,
}

/// The input of the member's `redress-remediate` function, which does a native control from inspect to verify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemediateRequest {
    /// What the runbook was started with.
    #[serde(flatten)]
    pub job: Job,
    /// The native function, as the control file names it: `ec2_open_port`.
    pub native: String,
    /// The account and Region that the runbook runs in, from SSM's own variables.
    pub account_id: AccountId,
    /// See `account_id`.
    pub region: Region,
    /// The control's parameters: strings, numbers, booleans and lists, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    /// Which part of [`Mode::Snapshot`] this is; absent for every other mode.
    #[serde(default)]
    pub copy: Option<CopyStep>,
}

/// A part of [`Mode::Snapshot`]. Between two of them SSM waits until what was made is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyStep {
    /// Begin to make the n-th copy, counted from 1.
    Make(u32),
    /// All are complete: remove what only led to the last one, and record it.
    Finish,
    /// Something failed: remove all that was made, and record that.
    Discard,
}

/// The answer of `redress-remediate`. An AWS error is an answer too (`Failed`); the function itself fails only
/// when it could not record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemediateResponse {
    /// How it ended.
    pub outcome: Outcome,
    /// SHA-256 of the canonical JSON of the change, hexadecimal.
    pub change_sha256: String,
    /// What failed, when something did.
    pub error: String,
    /// `Proceed` while [`Mode::Snapshot`] goes on, else the outcome.
    pub decision: String,
    /// The id of the copy that was begun, for SSM to wait for; empty otherwise.
    pub made: String,
}

/// The input of the member's functions that run playbooks, sent by the administrator account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainRequest {
    /// What a runbook would send.
    #[serde(flatten)]
    pub request: RemediateRequest,
    /// Only tell what became of it, and end it where it was cut off; what never began is not begun.
    #[serde(default)]
    pub recall: bool,
}

/// What became of a playbook's run, by the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainResponse {
    /// How it ended; `None` when it never began, and was only to be told of.
    pub outcome: Option<Outcome>,
    /// What failed; of what is [`Outcome::Verified`], what was to be done besides and could not.
    pub error: String,
    /// The fence of the worker that wrote the evidence.
    pub fence: String,
    /// Version of the evidence object; empty where there is none.
    pub version_id: String,
    /// Hash of the pre-image; empty where there is no evidence.
    pub pre_image_sha256: String,
    /// Hash of the change.
    pub change_sha256: String,
    /// Hash of the post-image.
    pub post_image_sha256: String,
}

impl ContainResponse {
    /// The answer of what was refused before anything was recorded.
    #[must_use]
    pub const fn without_evidence(outcome: Option<Outcome>, error: String, fence: String) -> Self {
        Self {
            outcome,
            error,
            fence,
            version_id: String::new(),
            pre_image_sha256: String::new(),
            change_sha256: String::new(),
            post_image_sha256: String::new(),
        }
    }
}

/// The decision with which a runbook goes on.
pub const PROCEED: &str = "Proceed";

/// The input of the member's `redress-guard` function, sent by the orchestrator before anything is decided for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GuardRequest {
    /// The control that would be remediated.
    pub control: ControlId,
    /// The resource.
    pub resource_arn: Arn,
    /// Its CloudFormation type.
    pub resource_type: String,
    /// The account that must be the function's own.
    pub account_id: AccountId,
    /// The resource's Region.
    pub region: Region,
    /// What the finding itself names and a threat list may know: addresses, domains, file hashes.
    #[serde(default)]
    pub indicators: Vec<String>,
}

/// Who manages a resource, so that a change made past them would come undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ownership {
    /// `CloudFormation` or `Terraform`.
    pub manager: String,
    /// The stack's name, or what the tags say of the Terraform workspace.
    pub name: String,
    /// Where to make the change instead, in a sentence.
    pub hint: String,
    /// Whether AWS itself vouches for it. False when only tags say so, which anybody in the account may write.
    #[serde(default)]
    pub vouched: bool,
}

/// Something that uses the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dependent {
    /// Its CloudFormation type.
    pub resource_type: String,
    /// Its id or ARN.
    pub id: String,
}

/// What the guard found out. Every question that it could not answer is in `unanswered`: no answer is not "no".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GuardEvidence {
    /// The resource's tags.
    pub tags: BTreeMap<String, String>,
    /// Who manages it, when somebody does.
    pub owned_by: Option<Ownership>,
    /// What uses it: at most 50.
    pub dependents: Vec<Dependent>,
    /// How many use it in all.
    pub dependent_count: u32,
    /// When it was used last, RFC 3339, where AWS knows.
    pub last_used: Option<String>,
    /// Set when a tag of the list of critical tags says so: `tag=value`.
    pub critical: Option<String>,
    /// What lets anybody outside reach it, each in words; empty when nothing that was looked at does, and `None` when nobody
    /// knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Vec<String>>,
    /// The entries of the threat list that the resource or the finding's indicators match.
    pub threats: Vec<String>,
    /// The questions that had no answer, each with why.
    pub unanswered: Vec<String>,
}

/// What a function answers a step of `aws:invokeLambdaFunction`: the answer, and once more as its `Payload`.
///
/// A step selects its outputs with `$.Payload.Key`. AWS does not document where such a path starts: at the answer of
/// `Invoke`, as public runbooks have it, or at what the function returned, as its one example does. It finds the same here.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepAnswer<T> {
    #[serde(flatten)]
    answer: T,
    payload: T,
}

impl<T: Clone> From<T> for StepAnswer<T> {
    fn from(answer: T) -> Self {
        Self { payload: answer.clone(), answer }
    }
}

/// A remediation's evidence: the object in the member's bucket. Version 1 of it is stored before the change
/// (create-only); the finished one is a newer version of the same key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Evidence {
    /// Format version, 1.
    pub version: u32,
    /// What was asked for.
    pub job: Job,
    /// The account.
    pub account_id: AccountId,
    /// The Region.
    pub region: Region,
    /// When the pre-image was stored.
    pub recorded_at: jiff::Timestamp,
    /// Pre-image and change ([`Before`]), envelope-encrypted.
    pub before: Sealed,
    /// SHA-256 of the pre-image's canonical JSON.
    pub pre_image_sha256: String,
    /// SHA-256 of the change's canonical JSON.
    pub change_sha256: String,
    /// What came out; absent until the end.
    pub result: Option<EvidenceResult>,
}

/// The second half of [`Evidence`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EvidenceResult {
    /// When.
    pub finished_at: jiff::Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What failed.
    pub error: String,
    /// The post-image ([`Image`]), envelope-encrypted.
    pub after: Sealed,
    /// SHA-256 of the post-image's canonical JSON.
    pub post_image_sha256: String,
    /// The post-image is only what was found, and may be somebody else's work: an undo does not take it for what this
    /// remediation left.
    #[serde(default)]
    pub uncertain: bool,
    /// The id of the copy that [`Mode::Snapshot`] left for `Apply`; empty otherwise.
    #[serde(default)]
    pub made: String,
    /// What a playbook took of the resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acquired: Vec<Item>,
}

/// The plaintext of [`Evidence::before`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Before {
    /// The state before.
    pub pre_image: Image,
    /// The change to be made.
    pub change: Change,
}

/// An envelope: AES-256-GCM under a KMS data key, with encryption context `{RemediationId, AccountId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sealed {
    /// ARN of the KMS key.
    pub key_id: String,
    /// The data key, encrypted by KMS, base64.
    pub encrypted_data_key: String,
    /// 96-bit nonce, base64.
    pub nonce: String,
    /// Ciphertext and tag, base64.
    pub ciphertext: String,
}

/// Names of the parameters of the control runbook `Redress-Control`, all strings.
pub mod parameter {
    /// Role of the control runbook.
    pub const AUTOMATION_ASSUME_ROLE: &str = "AutomationAssumeRole";
    /// Role of the remediation runbook (`Redress-Remediate-<family>`).
    pub const REMEDIATION_ASSUME_ROLE: &str = "RemediationAssumeRole";
    /// See [`super::Job`].
    pub const REMEDIATION_ID: &str = "RemediationId";
    /// See [`super::Job`].
    pub const CONTROL: &str = "Control";
    /// See [`super::Job`].
    pub const RESOURCE_ARN: &str = "ResourceArn";
    /// See [`super::Job`].
    pub const RESOURCE_NAME: &str = "ResourceName";
    /// See [`super::Job`].
    pub const MODE: &str = "Mode";
    /// See [`super::Job`].
    pub const FENCE: &str = "Fence";
    /// See [`super::Job`].
    pub const EVIDENCE_KEY: &str = "EvidenceKey";
    /// See [`super::Job`].
    pub const SOURCE_EVIDENCE_KEY: &str = "SourceEvidenceKey";
    /// The member's evidence bucket.
    pub const EVIDENCE_BUCKET: &str = "EvidenceBucket";
    /// See [`super::Job`].
    pub const PLAN_SHA256: &str = "PlanSha256";
}

/// Metadata keys of the evidence object (`x-amz-meta-…`), which the control runbook reads with `HeadObject`.
/// On an unfinished object the outcome is `Started` and the post-image's hash `none`.
pub mod metadata {
    /// [`super::Outcome`]; `Started` until the end.
    pub const OUTCOME: &str = "outcome";
    /// Hash of the pre-image.
    pub const PRE_IMAGE: &str = "pre-image-sha256";
    /// Hash of the change.
    pub const CHANGE: &str = "change-sha256";
    /// Hash of the post-image; `none` until the end.
    pub const POST_IMAGE: &str = "post-image-sha256";
    /// The fence of the worker that wrote it.
    pub const FENCE: &str = "fence";
    /// The id of the copy that mode `Snapshot` made; `none` otherwise.
    pub const MADE: &str = "made";
    /// Why it failed, as far as a header can hold it; `none` when nothing did.
    pub const ERROR: &str = "error";
}

/// Names of the outputs of the control runbook, as `GetAutomationExecution` returns them.
pub mod output {
    /// [`super::Outcome`].
    pub const OUTCOME: &str = "LogResults.Outcome";
    /// Version of the evidence object.
    pub const VERSION_ID: &str = "LogResults.VersionId";
    /// Hash of the pre-image.
    pub const PRE_IMAGE: &str = "LogResults.PreImageSha256";
    /// Hash of the change.
    pub const CHANGE: &str = "LogResults.ChangeSha256";
    /// Hash of the post-image.
    pub const POST_IMAGE: &str = "LogResults.PostImageSha256";
    /// The fence of the worker that wrote the evidence: another than the execution's when that was overtaken.
    pub const FENCE: &str = "LogResults.Fence";
    /// The id of the copy that mode `Snapshot` made; `none` otherwise.
    pub const MADE: &str = "LogResults.Made";
    /// Why it failed, shortened; `none` when nothing did.
    pub const ERROR: &str = "LogResults.Error";
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_finds_its_output_wherever_its_path_starts() {
        let answer = RemediateResponse {
            outcome: Outcome::Verified,
            change_sha256: "c".to_owned(),
            error: String::new(),
            decision: "Verified".to_owned(),
            made: String::new(),
        };
        let returned = serde_json::to_value(StepAnswer::from(answer)).unwrap();
        let of_invoke = serde_json::json!({ "StatusCode": 200, "Payload": returned.clone() });
        for start in [of_invoke, returned] {
            assert_eq!(start["Payload"]["Outcome"], "Verified");
        }
    }

    #[test]
    fn an_image_is_taken_with_its_values_as_json_or_as_text() {
        let image = Image { present: true, state: json!({"A": 1}) };
        for given in [
            json!({"Present": true, "State": {"A": 1}}),
            json!({"Present": "true", "State": "{\"A\":1}"}),
            json!({"Present": "True", "State": {"A": 1}}),
        ] {
            assert_eq!(serde_json::from_value::<Image>(given).unwrap(), image);
        }
        for given in [
            json!({"Present": 1, "State": {}}),
            json!({"Present": "yes", "State": {}}),
            json!({"Present": true, "State": []}),
            json!({"Present": true, "State": "A=1"}),
            json!({"Present": true}),
        ] {
            assert!(serde_json::from_value::<Image>(given.clone()).is_err(), "{given}");
        }
    }
}

//! Who may ask what at the door, by the role that AWS authenticated: one table. Pure.
//!
//! It only takes away. That a caller may knock at all is IAM's to say; whether a person may say yes to one plan is policy's.

use redress_common::arn::Arn;
use redress_common::names;
use redress_common::operate::{Listing, Request};

use super::door::Refused;

/// What a request is, as far as duties go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Looks at what people are asked.
    SeeQuestions,
    /// Looks at anything else.
    See,
    /// Says yes or no.
    Answer,
    /// Everything that changes what Redress does, or has it do something.
    Change,
}

use Deed::{Answer, Change, See, SeeQuestions};

/// The roles of people, and what each may ask. Any other role, and a user, may what the operator may: whoever gave it the right
/// to call the door meant that.
const DUTIES: [(&str, &[Deed]); 3] = [
    (names::APPROVER_ROLE, &[SeeQuestions, Answer]),
    (names::AUDITOR_ROLE, &[SeeQuestions, See]),
    (names::OPERATOR_ROLE, &[SeeQuestions, See, Answer, Change]),
];

/// Who answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answering {
    /// Approvers, and whoever operates.
    #[default]
    Operators,
    /// Approvers, and nobody else.
    ApproversOnly,
}

impl Answering {
    /// By the value of parameter `OperatorsApprove` of the stack: only a clear yes lets operators answer.
    #[must_use]
    pub fn of(operators_approve: Option<&str>) -> Self {
        match operators_approve {
            // What was deployed before there were approvers.
            None | Some("true") => Self::Operators,
            Some(_) => Self::ApproversOnly,
        }
    }
}

/// Whether this caller may ask this.
///
/// # Errors
/// When the caller's role has another duty.
pub fn check(by: &Arn, request: &Request, answering: Answering) -> Result<(), Refused> {
    let (role, deed) = (role_of(by), deed(request));
    let duty = DUTIES.iter().find(|(name, _)| Some(*name) == role);
    let allowed = duty.map_or(DUTIES[2].1, |(_, allowed)| allowed);
    let by_operator = answering == Answering::ApproversOnly && deed == Answer && role != Some(names::APPROVER_ROLE);
    if allowed.contains(&deed) && !by_operator {
        return Ok(());
    }
    let who = role.unwrap_or("who calls");
    let instead = match deed {
        Answer => names::APPROVER_ROLE,
        SeeQuestions | See => names::AUDITOR_ROLE,
        Change => names::OPERATOR_ROLE,
    };
    let message = format!("{who} may not ask this; it is the duty of role {instead}");
    Err(Refused::forbidden("another-duty", message))
}

const fn deed(request: &Request) -> Deed {
    match request {
        Request::List { what: Listing::Approvals } => SeeQuestions,
        Request::List { .. } | Request::DlqList { .. } => See,
        Request::Answer { .. } => Answer,
        Request::Switch { .. }
        | Request::Settings { .. }
        | Request::PolicySet { .. }
        | Request::PolicyRollback { .. }
        | Request::ExemptionAdd { .. }
        | Request::ExemptionRemove { .. }
        | Request::BreakerClose { .. }
        | Request::Remediate { .. }
        | Request::Undo { .. }
        | Request::DlqRedrive { .. }
        | Request::CampaignPlan { .. }
        | Request::CampaignRun { .. }
        | Request::CaseClose { .. }
        | Request::Destinations { .. }
        | Request::NotifyTest { .. } => Change,
    }
}

/// The role of a session.
fn role_of(by: &Arn) -> Option<&str> {
    by.as_str().splitn(6, ':').nth(5)?.strip_prefix("assumed-role/")?.split('/').next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "3f2b6c1e-8a57-5d0c-9f5e-1d2c3b4a5968";

    fn requests() -> Vec<(Deed, Value)> {
        let remediate = json!({
            "Operation": "Remediate", "Control": "S3.8", "AccountId": "111122223333", "Region": "eu-central-1",
            "ResourceArn": "arn:aws:s3:::b", "Mode": "Apply", "RequestId": "r", "Reason": "",
        });
        let exempt = json!({
            "Operation": "ExemptionAdd", "Id": "e", "Owner": "o", "Reason": "", "ExpiresAt": "2026-01-01T00:00:00Z",
        });
        let plan = json!({ "Operation": "CampaignPlan", "Name": "c", "Control": "S3.8", "PerHour": 1, "Reason": "" });
        let answer =
            json!({ "Operation": "Answer", "RemediationId": ID, "Approve": true, "PlanSha256": "", "Reason": "" });
        vec![
            (SeeQuestions, json!({ "Operation": "List", "What": "Approvals" })),
            (See, json!({ "Operation": "List", "What": "Breakers" })),
            (See, json!({ "Operation": "List", "What": "Campaigns" })),
            (See, json!({ "Operation": "DlqList" })),
            (Answer, answer),
            (Change, json!({ "Operation": "Switch", "To": "off", "Reason": "" })),
            (Change, json!({ "Operation": "Settings", "Reason": "" })),
            (Change, json!({ "Operation": "PolicySet", "Source": "", "Reason": "" })),
            (Change, json!({ "Operation": "PolicyRollback", "Reason": "" })),
            (Change, exempt),
            (Change, json!({ "Operation": "ExemptionRemove", "Id": "e", "Reason": "" })),
            (Change, json!({ "Operation": "BreakerClose", "Scope": "organisation", "Reason": "" })),
            (Change, remediate),
            (Change, json!({ "Operation": "Undo", "RemediationId": ID, "RequestId": "r", "Reason": "" })),
            (Change, json!({ "Operation": "DlqRedrive", "Reason": "" })),
            (Change, plan),
            (Change, json!({ "Operation": "CaseClose", "RemediationId": ID, "Reason": "" })),
            (Change, json!({ "Operation": "CampaignRun", "Name": "c", "Run": true, "Reason": "" })),
            (Change, json!({ "Operation": "Destinations", "List": [], "Reason": "" })),
            (Change, json!({ "Operation": "NotifyTest", "Destination": "d", "Reason": "" })),
        ]
    }

    fn may(by: &str, request: &Value, answering: Answering) -> bool {
        let request: Request = serde_json::from_value(request.clone()).unwrap();
        check(&by.parse().unwrap(), &request, answering).is_ok()
    }

    fn session(role: &str) -> String {
        format!("arn:aws:sts::999999999999:assumed-role/{role}/anna")
    }

    #[test]
    fn each_role_may_ask_what_is_its_duty_and_nothing_else() {
        let user = "arn:aws:iam::999999999999:user/anna".to_owned();
        let table: [(String, &[Deed]); 6] = [
            (session("Redress-Operator"), &[SeeQuestions, See, Answer, Change]),
            (session("Redress-Approver"), &[SeeQuestions, Answer]),
            (session("Redress-Auditor"), &[SeeQuestions, See]),
            // Whose own policies let it in.
            (session("Administrator"), &[SeeQuestions, See, Answer, Change]),
            (session("redress-auditor"), &[SeeQuestions, See, Answer, Change]),
            (user, &[SeeQuestions, See, Answer, Change]),
        ];
        for (by, duty) in table {
            for (deed, request) in requests() {
                assert_eq!(may(&by, &request, Answering::Operators), duty.contains(&deed), "{by}: {request}");
            }
        }
    }

    #[test]
    fn where_duties_are_separate_only_approvers_answer() {
        for role in ["Redress-Operator", "Redress-Auditor", "Administrator"] {
            for (deed, request) in requests().into_iter().filter(|(deed, _)| *deed == Answer || *deed == SeeQuestions) {
                let allowed = may(&session(role), &request, Answering::ApproversOnly);
                assert_eq!(allowed, deed == SeeQuestions, "{role}: {request}");
            }
        }
        let answers = requests().into_iter().find(|(deed, _)| *deed == Answer).unwrap().1;
        assert!(may(&session("Redress-Approver"), &answers, Answering::ApproversOnly));
    }

    #[test]
    fn only_a_clear_yes_lets_operators_answer() {
        assert_eq!(Answering::of(None), Answering::Operators);
        assert_eq!(Answering::of(Some("true")), Answering::Operators);
        for other in ["false", "", "True", "yes"] {
            assert_eq!(Answering::of(Some(other)), Answering::ApproversOnly, "{other}");
        }
    }

    #[test]
    fn a_refusal_says_whose_duty_it_is() {
        let request = serde_json::from_value(json!({ "Operation": "Switch", "To": "on", "Reason": "" })).unwrap();
        let refused = check(&session("Redress-Auditor").parse().unwrap(), &request, Answering::Operators).unwrap_err();
        assert_eq!((refused.status, refused.code), (403, "another-duty"));
        assert_eq!(refused.message, "Redress-Auditor may not ask this; it is the duty of role Redress-Operator");
    }
}

//! What is asked of CloudFormation: whose stack a resource is in, also when it carries no tag of it (IAM has none).

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use redress_common::aws::failure::AwsFailure;
use redress_common::contract::GuardEvidence;

use super::labels::of_stack;
use super::{Answer, MAX_REASON, unanswered};

/// The stack that holds the resource with this physical id, and the one at the root of its nesting.
///
/// Two resources of different services may share an id: `service` is as an ARN writes it.
pub(super) async fn owner(client: Client, physical_id: String, service: String) -> Answer {
    let answer = match client.describe_stack_resources().physical_resource_id(&physical_id).send().await {
        Ok(answer) => answer,
        // How it says that there is none.
        Err(error) if error.code() == Some("ValidationError") => return Ok(GuardEvidence::default()),
        Err(error) => return Err(AwsFailure::of("DescribeStackResources", &error)),
    };
    let mut held = answer.stack_resources().iter().filter(|resource| {
        resource.physical_resource_id() == Some(&physical_id)
            && !resource.resource_status().is_some_and(|status| status.as_str().starts_with("DELETE_"))
    });
    let Some(other) = held.next() else { return Ok(GuardEvidence::default()) };
    let ours =
        std::iter::once(other).chain(held).find(|one| one.resource_type().is_some_and(|kind| is_of(kind, &service)));
    let Some((name, id)) = ours.and_then(|ours| Some((ours.stack_name()?, ours.stack_id()?))) else {
        // It tells of one of those that share an id, and not which other ones there are.
        let kind = other.resource_type().unwrap_or("another type");
        return Ok(unanswered("owner", &format!("CloudFormation tells of a resource of {kind} by this id only")));
    };
    let mut evidence = GuardEvidence::default();
    let root = match client.describe_stacks().stack_name(id).send().await {
        Ok(answer) => answer.stacks().first().and_then(|stack| stack.root_id()).map(name_of),
        Err(error) => {
            let failure = AwsFailure::of("DescribeStacks", &error).to_string();
            let why: String = failure.chars().take(MAX_REASON).collect();
            evidence.unanswered.push(format!("whether the stack is nested in another: {why}"));
            None
        }
    };
    evidence.owned_by = Some(of_stack(name, root.as_deref().unwrap_or(name)));
    Ok(evidence)
}

/// Whether a CloudFormation type is of a service. Where the two spell it otherwise, nothing is ruled out.
fn is_of(kind: &str, service: &str) -> bool {
    const SPELLED_ALIKE: [&str; 11] =
        ["dynamodb", "ec2", "iam", "kms", "lambda", "rds", "redshift", "s3", "secretsmanager", "sns", "sqs"];
    let of_kind = kind.split("::").nth(1).unwrap_or_default().to_ascii_lowercase();
    of_kind == service || !SPELLED_ALIKE.contains(&service) && !SPELLED_ALIKE.contains(&of_kind.as_str())
}

/// The name in a stack's ARN.
fn name_of(id: &str) -> String {
    id.split('/').nth(1).unwrap_or(id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_of_the_service_that_an_arn_names_or_may_be() {
        assert!(is_of("AWS::S3::Bucket", "s3"));
        assert!(!is_of("AWS::IAM::Role", "s3"));
        assert!(!is_of("AWS::S3::Bucket", "es"));
        assert!(is_of("AWS::OpenSearchService::Domain", "es"));
    }

    #[test]
    fn a_stacks_name_is_read_from_its_arn() {
        assert_eq!(name_of("arn:aws:cloudformation:eu-west-1:111122223333:stack/app/0f0c3a52"), "app");
        assert_eq!(name_of("app"), "app");
    }
}

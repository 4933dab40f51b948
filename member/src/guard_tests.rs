#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::testing::{ACCOUNT, FakeAws, here};

fn request(arn: &str) -> GuardRequest {
    let request = json!({
        "Control": "IAM.7", "ResourceArn": arn, "ResourceType": "", "AccountId": ACCOUNT, "Region": here().region,
    });
    serde_json::from_value(request).unwrap()
}

fn guard(aws: &FakeAws) -> Guard {
    Guard::new(aws.config(), |_| None)
}

const GROUP: &str = "arn:aws:ec2:eu-central-1:111122223333:security-group/sg-1";
const STACKS: &str = "https://cloudformation.amazonaws.com/doc/2010-05-15/";

fn held(kind: &str, status: &str) -> String {
    format!(
        "<DescribeStackResourcesResponse xmlns=\"{STACKS}\"><DescribeStackResourcesResult><StackResources><member>\
         <StackName>app-Network-1</StackName><StackId>arn:aws:cloudformation:eu-central-1:111122223333:stack/app-Network-1/1</StackId>\
         <LogicalResourceId>It</LogicalResourceId><PhysicalResourceId>sg-1</PhysicalResourceId><ResourceType>{kind}</ResourceType>\
         <Timestamp>2026-01-01T00:00:00Z</Timestamp><ResourceStatus>{status}</ResourceStatus>\
         </member></StackResources></DescribeStackResourcesResult></DescribeStackResourcesResponse>"
    )
}

async fn owner(answers: &[(&str, u16, &str)]) -> GuardEvidence {
    let aws = FakeAws::default();
    for (name, status, body) in answers {
        aws.answer(name, *status, body);
    }
    let client = aws_sdk_cloudformation::Client::new(&aws.config());
    stacks::owner(client, "sg-1".to_owned(), "ec2".to_owned()).await.unwrap()
}

#[tokio::test]
async fn a_question_that_fails_or_is_late_is_unanswered_and_takes_no_other_with_it() {
    let mut questions = Questions::new(Duration::from_millis(20));
    questions.ask("tags", async { Ok(tagged([("a", "b")])) });
    questions.ask("owner", async { Err(AwsFailure::partial("Ask", "x".repeat(10_000))) });
    questions.ask("uses", std::future::pending());
    questions.ask("cut off", async { panic!("a bug") });
    let evidence = questions.answers().await;
    assert_eq!(evidence.tags["a"], "b");
    let [cut, owner, uses] = evidence.unanswered.as_slice() else { panic!("{:?}", evidence.unanswered) };
    assert!(cut.starts_with("a question was cut off"), "{cut}");
    assert!(owner.starts_with("owner: `Ask` failed") && owner.chars().count() <= 7 + MAX_REASON, "{owner}");
    assert_eq!(uses, "uses: no answer in time");
}

#[tokio::test]
async fn a_nested_stack_names_the_root_where_to_change_it() {
    let root = "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>app-Network-1</StackName>\
                <RootId>arn:aws:cloudformation:eu-central-1:111122223333:stack/app/2</RootId><CreationTime>2026-01-01T00:00:00Z</CreationTime>\
                <StackStatus>CREATE_COMPLETE</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>";
    let ours = held("AWS::EC2::SecurityGroup", "CREATE_COMPLETE");
    let found = owner(&[("DescribeStackResources", 200, &ours), ("DescribeStacks", 200, root)]).await;
    let owner = found.owned_by.unwrap();
    assert_eq!((owner.name.as_str(), owner.vouched), ("app-Network-1", true));
    assert!(owner.hint.starts_with("change stack `app` (here: its nested stack `app-Network-1`)"), "{}", owner.hint);
}

#[tokio::test]
async fn a_stack_whose_nesting_is_not_told_still_owns() {
    let ours = held("AWS::EC2::SecurityGroup", "UPDATE_COMPLETE");
    let refused = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
    let found = owner(&[("DescribeStackResources", 200, &ours), ("DescribeStacks", 403, refused)]).await;
    assert!(found.owned_by.unwrap().hint.starts_with("change stack `app-Network-1` and"));
    assert!(found.unanswered[0].starts_with("whether the stack is nested in another: `DescribeStacks` failed"));
}

#[tokio::test]
async fn what_no_stack_holds_any_more_is_owned_by_none() {
    let kept = owner(&[("DescribeStackResources", 200, &held("AWS::EC2::SecurityGroup", "DELETE_SKIPPED"))]).await;
    assert_eq!(kept, GuardEvidence::default());
    let none = "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack for sg-1 does not exist</Message></Error></ErrorResponse>";
    assert_eq!(owner(&[("DescribeStackResources", 400, none)]).await, GuardEvidence::default());
}

#[tokio::test]
async fn a_stack_that_holds_something_else_of_the_same_id_leaves_the_owner_open() {
    let other = owner(&[("DescribeStackResources", 200, &held("AWS::IAM::Role", "CREATE_COMPLETE"))]).await;
    assert_eq!(other.owned_by, None);
    assert_eq!(other.unanswered, ["owner: CloudFormation tells of a resource of AWS::IAM::Role by this id only"]);
}

#[tokio::test]
async fn a_role_and_a_user_tell_when_they_were_used_last() {
    let aws = FakeAws::default();
    let iam = aws_sdk_iam::Client::new(&aws.config());
    aws.answer(
        "GetRole",
        200,
        "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>r</RoleName><RoleId>AROA1</RoleId><Arn>arn:aws:iam::111122223333:role/r</Arn>\
         <CreateDate>2025-01-01T00:00:00Z</CreateDate><RoleLastUsed><LastUsedDate>2026-02-03T04:05:06Z</LastUsedDate></RoleLastUsed>\
         <Tags><member><Key>team</Key><Value>x</Value></member></Tags></Role></GetRoleResult></GetRoleResponse>",
    );
    let role = iam::role(iam.clone(), "r".to_owned()).await.unwrap();
    assert_eq!((role.last_used.as_deref(), role.tags["team"].as_str()), (Some("2026-02-03T04:05:06Z"), "x"));

    let key = |id: &str| format!("<member><AccessKeyId>{id}</AccessKeyId></member>");
    let keys = format!(
        "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>{}{}</AccessKeyMetadata></ListAccessKeysResult></ListAccessKeysResponse>",
        key("AKIA1"),
        key("AKIA2"),
    );
    let used = |when: &str| {
        format!(
            "<GetAccessKeyLastUsedResponse><GetAccessKeyLastUsedResult><AccessKeyLastUsed>{when}<ServiceName>s3</ServiceName><Region>x</Region>\
         </AccessKeyLastUsed></GetAccessKeyLastUsedResult></GetAccessKeyLastUsedResponse>"
        )
    };
    aws.answer("ListAccessKeys", 200, &keys);
    aws.answer("GetAccessKeyLastUsed", 200, &used("<LastUsedDate>2026-03-01T00:00:00Z</LastUsedDate>"));
    aws.answer("GetAccessKeyLastUsed", 200, &used(""));
    let keys = iam::keys(iam, "u".to_owned()).await.unwrap();
    assert_eq!((keys.last_used.as_deref(), keys.dependent_count), (Some("2026-03-01T00:00:00Z"), 2));
}

#[tokio::test]
async fn of_what_uses_it_fifty_are_listed_all_are_counted_and_a_cut_is_said() {
    let page = |number: usize, more: bool| {
        let items: String = (0..30)
            .map(|n| format!("<item><networkInterfaceId>eni-{number}-{n:02}</networkInterfaceId></item>"))
            .collect();
        let token = if more { format!("<nextToken>t{number}</nextToken>") } else { String::new() };
        format!(
            "<DescribeNetworkInterfacesResponse><networkInterfaceSet>{items}</networkInterfaceSet>{token}</DescribeNetworkInterfacesResponse>"
        )
    };
    let interfaces = async |count: usize| {
        let aws = FakeAws::default();
        (0..count).for_each(|n| aws.answer("DescribeNetworkInterfaces", 200, &page(n, n + 1 < count)));
        ec2::interfaces(aws_sdk_ec2::Client::new(&aws.config()), "sg-1".to_owned()).await.unwrap()
    };
    let whole = interfaces(MAX_PAGES).await;
    assert_eq!((whole.dependents.len(), whole.dependent_count, whole.unanswered.len()), (50, 150, 0));
    let cut = interfaces(MAX_PAGES + 1).await;
    assert_eq!((cut.dependents.len(), cut.dependent_count), (50, 150));
    assert_eq!(cut.unanswered, ["dependents: there are more of type AWS::EC2::NetworkInterface than were counted"]);
}

#[tokio::test]
async fn defect_10_a_request_for_elsewhere_is_refused_before_any_call() {
    let aws = FakeAws::default();
    let theirs = request("arn:aws:iam::444455556666:role/same-name");
    let two_regions = request("arn:aws:ec2:eu-west-1:111122223333:security-group/sg-1");
    let account = GuardRequest { account_id: "444455556666".parse().unwrap(), ..request(GROUP) };
    for wrong in [theirs, two_regions, account] {
        assert!(guard(&aws).look(&here(), wrong).await.is_err());
    }
    assert!(aws.seen().is_empty());
}

#[test]
fn a_resource_of_another_region_may_be_looked_at_from_here() {
    let there = GuardRequest {
        region: "eu-west-1".parse().unwrap(),
        ..request("arn:aws:ec2:eu-west-1:111122223333:security-group/sg-1")
    };
    assert!(bind(&here(), &there).is_ok());
}

#[test]
fn indicators_beyond_the_bounds_are_left_out_and_said() {
    let many: Vec<String> = (0..300).map(|n| n.to_string()).chain(["x".repeat(300)]).collect();
    let (kept, told) = within_bounds(many);
    assert_eq!(kept.len(), MAX_INDICATORS);
    assert_eq!(told.unwrap(), "threats: 101 of 301 indicators were too many or too long");
    assert_eq!(within_bounds(vec!["a".to_owned()]), (vec!["a".to_owned()], None));
}

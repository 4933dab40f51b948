#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use super::*;
use crate::services::fake::FakeAws;
use crate::template::Template;

fn wanted(template: &str) -> Wanted {
    Wanted {
        name: "s".to_owned(),
        source: Arc::new(Source { text: template.to_owned(), template: Template::parse(template).unwrap() }),
        template_url: None,
        parameters: BTreeMap::new(),
        capabilities: Vec::new(),
        tags: BTreeMap::new(),
    }
}

fn place<'a>(aws: &'a FakeAws, documents: Option<&'a Ssm>) -> Place<'a> {
    Place {
        aws,
        credentials: Credentials::root("222222222222"),
        account: "222222222222",
        region: "eu-west-1",
        documents,
    }
}

#[test]
fn a_calendar_in_a_template_is_created_as_it_stands_there() {
    let template = Template::parse(
        "Resources: {Freeze: {Type: 'AWS::SSM::Document', Properties: {Name: redress-freeze, DocumentType: ChangeCalendar, \
         DocumentFormat: TEXT, Content: 'BEGIN:VCALENDAR'}}}",
    )
    .unwrap();
    let resources = BTreeMap::from([("Freeze".to_owned(), "redress-freeze".to_owned())]);
    let calls = complete::calls(&template, &Stack { resources, ..Stack::default() }).unwrap();
    assert_eq!(calls[0].operation, "CreateDocument");
    let expected = json!({"Name": "redress-freeze", "Content": "BEGIN:VCALENDAR", "DocumentType": "ChangeCalendar", "DocumentFormat": "TEXT"});
    assert_eq!(calls[0].parameters, expected);
}

fn documents(names: &[(&str, &str)]) -> String {
    let one = |(name, step): &(&str, &str)| {
        let content = format!(
            "{{schemaVersion: '0.3', mainSteps: [{{name: {step}, action: 'aws:sleep', inputs: {{Duration: PT1S}}}}]}}"
        );
        format!(
            "{name}: {{Type: 'AWS::SSM::Document', Properties: {{Name: {name}, DocumentType: Automation, Content: {content}}}}}"
        )
    };
    format!("Resources: {{{}}}", names.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn an_update_changes_only_the_documents_that_differ_and_deletes_those_that_are_gone() {
    let statuses = Mutex::new(vec!["UPDATE_COMPLETE", "CREATE_COMPLETE"]);
    let aws = FakeAws::new(move |_, operation, asked| match operation {
        "DescribeStacks" => {
            let status = statuses.lock().unwrap().pop().unwrap_or("UPDATE_COMPLETE");
            Ok(json!({ "Stacks": [{ "StackId": "id", "StackStatus": status }] }))
        }
        "DescribeStackResources" => {
            let resource = |name: &str| json!({ "LogicalResourceId": name, "PhysicalResourceId": name });
            let resources = ["Same", "Changed", "Gone", "New"].map(resource);
            Ok(json!({ "StackResources": resources }))
        }
        _ => Ok(json!({ "StackId": "id", "asked": asked })),
    });
    let (before, after) = (
        wanted(&documents(&[("Same", "waits"), ("Changed", "waits"), ("Gone", "waits")])),
        wanted(&documents(&[("Same", "waits"), ("Changed", "sleeps"), ("New", "waits")])),
    );
    let ssm = Ssm::default();
    assert_eq!(place(&aws, Some(&ssm)).apply(&after, Some(&before)).await.unwrap(), "id");
    let has = |name: &str| ssm.has_document("222222222222", "eu-west-1", name);
    assert!(has("Changed") && has("New") && !has("Same"), "what did not change is not touched");
    let calls = aws.calls();
    let made: Vec<&str> =
        calls.iter().map(|(_, what, _)| what.as_str()).filter(|what| !what.contains(":Describe")).collect();
    assert_eq!(made, ["cloudformation:UpdateStack", "ssm:DeleteDocument"]);
    assert_eq!(calls.last().unwrap().2, json!({ "Name": "Gone" }));
}

#[tokio::test]
async fn a_stack_that_never_was_whole_is_deleted_and_made_again() {
    let statuses = Mutex::new(vec!["CREATE_COMPLETE", "DELETE_COMPLETE", "ROLLBACK_COMPLETE"]);
    let aws = FakeAws::new(move |_, operation, _| match operation {
        "DescribeStacks" => {
            let status = statuses.lock().unwrap().pop().unwrap_or("CREATE_COMPLETE");
            Ok(json!({ "Stacks": [{ "StackId": "id", "StackStatus": status }] }))
        }
        _ => Ok(json!({ "StackId": "id" })),
    });
    place(&aws, None).apply(&wanted("Resources: {}"), None).await.unwrap();
    let calls = aws.calls();
    let made: Vec<&str> =
        calls.iter().map(|(_, what, _)| what.as_str()).filter(|what| !what.contains(":Describe")).collect();
    assert_eq!(made, ["cloudformation:DeleteStack", "cloudformation:CreateStack"]);
}

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::{FakeAws, job};

const ARN: &str = "arn:aws:cloudfront::111122223333:distribution/E1";
const CONFIG: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DistributionConfig xmlns="http://cloudfront.amazonaws.com/doc/2020-05-31/"><CallerReference>c</CallerReference><Aliases><Quantity>0</Quantity></Aliases><DefaultRootObject></DefaultRootObject><Origins><Quantity>2</Quantity><Items><Origin><Id>site</Id><DomainName>gone.bucket.s3.eu-central-1.amazonaws.com</DomainName><OriginPath></OriginPath><CustomHeaders><Quantity>1</Quantity><Items><OriginCustomHeader><HeaderName>X-Verify</HeaderName><HeaderValue>s3cr3t</HeaderValue></OriginCustomHeader></Items></CustomHeaders><S3OriginConfig><OriginAccessIdentity></OriginAccessIdentity></S3OriginConfig><OriginAccessControlId>EOAC</OriginAccessControlId></Origin><Origin><Id>api</Id><DomainName>api.shop.test</DomainName><CustomOriginConfig><HTTPPort>80</HTTPPort><HTTPSPort>443</HTTPSPort><OriginProtocolPolicy>https-only</OriginProtocolPolicy></CustomOriginConfig></Origin></Items></Origins><DefaultCacheBehavior><TargetOriginId>site</TargetOriginId><ViewerProtocolPolicy>allow-all</ViewerProtocolPolicy></DefaultCacheBehavior><CacheBehaviors><Quantity>2</Quantity><Items><CacheBehavior><PathPattern>/a&amp;b/*</PathPattern><TargetOriginId>api</TargetOriginId><ViewerProtocolPolicy>allow-all</ViewerProtocolPolicy></CacheBehavior><CacheBehavior><PathPattern>/api/*</PathPattern><TargetOriginId>api</TargetOriginId><ViewerProtocolPolicy>https-only</ViewerProtocolPolicy></CacheBehavior></Items></CacheBehaviors><Comment>a &lt; b</Comment><Enabled>true</Enabled></DistributionConfig>"#;

fn native(aws: &FakeAws, parameters: Value) -> Distribution {
    let request = RemediateRequest {
        job: job(ARN),
        native: DECLARED.name.to_owned(),
        account_id: "111122223333".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        copy: None,
    };
    Distribution::new(&Clients::new(&aws.config()), &request).unwrap()
}

fn document(text: &str) -> Document<'_> {
    Document::read(text).unwrap()
}

/// The change of a goal on a state, made to a document: the change, what it became, and what the undo makes of that.
fn there_and_back(goal: &Goal, now: &State, text: &str) -> (Value, String, String) {
    let set = goal.wanted(now).unwrap().unwrap();
    let fixed = document(text).with(&set).unwrap();
    let mut after = now.clone();
    match (&mut after, set.clone()) {
        (State::ViewerProtocolPolicy(all), State::ViewerProtocolPolicy(some)) => all.extend(some),
        (State::Origins(all), State::Origins(some)) => all.extend(some),
        (all, set) => *all = set,
    }
    assert_eq!(goal.wanted(&after).unwrap(), None, "nothing is left to do");
    let undo = back(after, now.clone()).unwrap();
    let undone = document(&fixed).with(&undo).unwrap();
    (serde_json::to_value(set).unwrap(), fixed, undone)
}

#[test]
fn a_root_object_is_set_and_nothing_else() {
    let goal = Goal::RootObject("index.html".to_owned());
    let now = State::DefaultRootObject(document(CONFIG).root_object());
    let (set, fixed, undone) = there_and_back(&goal, &now, CONFIG);
    assert_eq!(set, json!({ "DefaultRootObject": "index.html" }));
    assert_eq!(fixed, CONFIG.replace("<DefaultRootObject>", "<DefaultRootObject>index.html"));
    assert_eq!(undone, CONFIG);

    let none = CONFIG.replace("<DefaultRootObject></DefaultRootObject>", "");
    let (_, fixed, undone) = there_and_back(&goal, &State::DefaultRootObject(None), &none);
    assert!(fixed.contains("</Aliases><DefaultRootObject>index.html</DefaultRootObject><Origins>"));
    assert_eq!(undone, none);
    assert_eq!(
        goal.wanted(&State::DefaultRootObject(Some("home.html".to_owned()))).unwrap(),
        None,
        "one that is set stays"
    );
}

#[test]
fn only_behaviors_that_allow_all_are_changed() {
    let now = State::ViewerProtocolPolicy(document(CONFIG).policies().unwrap());
    let (set, fixed, undone) = there_and_back(&Goal::Encryption, &now, CONFIG);
    let policy = "redirect-to-https";
    assert_eq!(set, json!({ "ViewerProtocolPolicy": { "": policy, "/a&b/*": policy } }));
    assert_eq!(fixed, CONFIG.replace("allow-all", policy));
    assert_eq!(undone, CONFIG);
}

#[tokio::test]
async fn an_origin_whose_bucket_is_gone_leads_to_nobody() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, CONFIG);
    aws.answer("HEAD", 404, "");
    let native = native(&aws, json!({ "Goal": "NoLostOrigin", "Replacement": "nobody.example" }));
    let image = native.inspect().await.unwrap().unwrap();
    let now: State = serde_json::from_value(image.state.clone()).unwrap();
    let change = native.plan(&image).unwrap();
    for written in [image.state.to_string(), serde_json::to_value(&change).unwrap().to_string()] {
        assert!(!written.contains("s3cr3t"), "{written}");
    }
    let (set, fixed, undone) = there_and_back(&native.goal, &now, CONFIG);
    assert_eq!(set["Origins"].as_object().unwrap().keys().collect::<Vec<_>>(), ["site"]);
    assert!(
        fixed.contains("<Id>site</Id><DomainName>nobody.example</DomainName><OriginPath></OriginPath><CustomHeaders>")
    );
    assert!(fixed.contains("<OriginAccessControlId></OriginAccessControlId></Origin><Origin><Id>api</Id>"));
    assert!(fixed.contains("<Enabled>true</Enabled>"), "the distribution stays on");
    assert_eq!(undone, CONFIG);
}

#[tokio::test]
async fn a_bucket_that_is_somebody_elses_is_there_and_one_that_nobody_can_tell_of_stops() {
    for (status, lost) in [(403, Some(0)), (301, Some(0)), (404, Some(1)), (500, None)] {
        let aws = FakeAws::default();
        aws.answer("GET", 200, CONFIG);
        aws.answer("HEAD", status, "");
        let native = native(&aws, json!({ "Goal": "NoLostOrigin", "Replacement": "nobody.example" }));
        let found = native.inspect().await.ok().map(|image| image.unwrap().state["Origins"].as_object().unwrap().len());
        assert_eq!(found, lost, "{status}");
    }
}

#[tokio::test]
async fn the_configuration_that_was_read_goes_back_with_its_tag() {
    let aws = FakeAws::default();
    aws.answer("GET", 200, CONFIG);
    let native = native(&aws, json!({ "Goal": "RootObject", "DefaultRootObject": "index.html" }));
    let image = native.inspect().await.unwrap().unwrap();
    let change = native.plan(&image).unwrap();
    aws.answer("PUT", 200, "<Distribution></Distribution>");
    native.call(&change.0[0]).await.unwrap();
    let sent = String::from_utf8(aws.seen().remove(1).body).unwrap();
    assert_eq!(sent, CONFIG.replace("<DefaultRootObject>", "<DefaultRootObject>index.html"));

    let mut foreign = change.0[0].clone();
    foreign.parameters["Id"] = json!("E2");
    assert!(native.call(&foreign).await.is_err(), "a call of another distribution is none of this function's");
}

#[tokio::test]
async fn a_distribution_that_is_not_there_is_none() {
    let aws = FakeAws::default();
    aws.answer("GET", 404, "<ErrorResponse><Error><Code>NoSuchDistribution</Code></Error></ErrorResponse>");
    assert!(native(&aws, json!({ "Goal": "Encryption" })).inspect().await.unwrap().is_none());
}

#[test]
fn the_bucket_is_the_part_before_the_service() {
    let origin = |domain: &str| Origin {
        domain_name: domain.to_owned(),
        kind: "<S3OriginConfig/>".to_owned(),
        origin_access_control_id: None,
    };
    for (domain, name) in [
        ("shop.s3.amazonaws.com", Some("shop")),
        ("a.s3.b.s3.eu-central-1.amazonaws.com", Some("a.s3.b")),
        ("shop.s3-eu-west-1.amazonaws.com", Some("shop")),
        ("shop.s3.cn-north-1.amazonaws.com.cn", Some("shop")),
        ("mediastore.test", None),
    ] {
        assert_eq!(bucket(&origin(domain)), name, "{domain}");
    }
    let website =
        Origin { kind: "<CustomOriginConfig/>".to_owned(), ..origin("shop.s3-website-us-east-1.amazonaws.com") };
    assert_eq!(bucket(&website), None);
}

proptest! {
    /// However many behaviours there are, those that allow all are redirected, all else is the same text, and the undo gives
    /// the same bytes.
    #[test]
    fn any_behaviors(policies in prop::collection::vec(prop::sample::select(vec!["allow-all", "https-only", "redirect-to-https"]), 1..6)) {
        let behavior = |(index, policy): (usize, &&str)| format!("<CacheBehavior><PathPattern>/{index}/*</PathPattern><ViewerProtocolPolicy>{policy}</ViewerProtocolPolicy><Compress>true</Compress></CacheBehavior>");
        let all: String = policies.iter().enumerate().map(behavior).collect();
        let text = format!("<DistributionConfig><DefaultCacheBehavior><ViewerProtocolPolicy>{}</ViewerProtocolPolicy></DefaultCacheBehavior><CacheBehaviors><Items>{all}</Items></CacheBehaviors></DistributionConfig>", policies[0]);
        let now = State::ViewerProtocolPolicy(document(&text).policies().unwrap());
        if policies.contains(&"allow-all") {
            let (_, fixed, undone) = there_and_back(&Goal::Encryption, &now, &text);
            prop_assert_eq!(fixed, text.replace("allow-all", "redirect-to-https"));
            prop_assert_eq!(undone, text);
        } else {
            prop_assert_eq!(Goal::Encryption.wanted(&now).unwrap(), None);
        }
    }
}

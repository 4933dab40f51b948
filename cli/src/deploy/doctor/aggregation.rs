//! Security Hub's cross-Region aggregation: where there is one, it ends in the home Region and brings each further Region there.
//!
//! Without one nothing is missing that was promised: further Regions are heard of by their own buses, of Config and GuardDuty.

use std::collections::BTreeSet;

use aws_sdk_securityhub::Client;
use redress_common::aws::failure::AwsFailure;
use redress_common::ids::Region;

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, Site};

static ELSEWHERE: Fault = Fault {
    code: "aggregation-elsewhere",
    severity: Severity::Warning,
    about: "Security Hub's aggregation Region is not Redress's home Region",
    why: "what Security Hub finds in other Regions is told in a Region where Redress does not listen, and has no custom actions",
    todo: "docs/deploy.md (Security Hub's aggregation Region): `aws securityhub delete-finding-aggregator --finding-aggregator-arn {thing}` in its Region, then `aws securityhub create-finding-aggregator … --region {home}`; with central configuration, change Security Hub's home Region",
};

static LEFT_OUT: Fault = Fault {
    code: "aggregation-without-region",
    severity: Severity::Warning,
    about: "Security Hub's aggregation leaves out a Region of Redress",
    why: "what Security Hub finds there is heard of by Config and GuardDuty alone, and the other Regions' besides by Security Hub",
    todo: "`aws securityhub update-finding-aggregator --finding-aggregator-arn {thing} --region {home}`",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Aggregation,
    at: Where::Together,
    about: "Security Hub's cross-Region aggregation, where there is one: into the home Region, from every further Region of the members",
    faults: &[&ELSEWHERE, &LEFT_OUT],
    rights: &["securityhub:GetFindingAggregator", "securityhub:ListFindingAggregators"],
};

/// What Security Hub tells of its aggregator.
#[derive(Debug, Clone, Default)]
struct Aggregator {
    arn: String,
    region: String,
    mode: String,
    /// Those that the mode speaks of.
    named: BTreeSet<String>,
}

/// `regions` are those that Redress has beside the home Region.
pub(super) async fn look(site: &Site, regions: &[Region]) -> Result<Vec<Finding>, Blind> {
    let found = read(&Client::new(site.config())).await;
    match found {
        Ok(aggregators) => {
            Ok(aggregators.iter().filter_map(|aggregator| judge(&site.place, aggregator, regions)).collect())
        }
        // Security Hub is off: that is told by itself.
        Err(failure) if failure.code() == Some("InvalidAccessException") => Ok(Vec::new()),
        Err(failure) => Err(failure.into()),
    }
}

async fn read(client: &Client) -> Result<Vec<Aggregator>, AwsFailure> {
    let mut found = Vec::new();
    let mut pages = client.list_finding_aggregators().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| AwsFailure::of("securityhub:ListFindingAggregators", &error))?;
        for arn in page.finding_aggregators().iter().filter_map(|one| one.finding_aggregator_arn()) {
            let told = client.get_finding_aggregator().finding_aggregator_arn(arn).send().await;
            let told = told.map_err(|error| AwsFailure::of("securityhub:GetFindingAggregator", &error))?;
            found.push(Aggregator {
                arn: arn.to_owned(),
                region: told.finding_aggregation_region().unwrap_or_default().to_owned(),
                mode: told.region_linking_mode().unwrap_or_default().to_owned(),
                named: told.regions().iter().cloned().collect(),
            });
        }
    }
    Ok(found)
}

fn judge(place: &Place, aggregator: &Aggregator, regions: &[Region]) -> Option<Finding> {
    let Aggregator { arn, region, mode, named } = aggregator;
    if region != place.home.as_str() {
        let what = format!("Security Hub aggregates in {region}, and Redress's home Region is {}", place.home);
        return Some(place.finding(&ELSEWHERE, arn, what));
    }
    let further: BTreeSet<String> = regions.iter().filter(|one| **one != place.home).map(ToString::to_string).collect();
    let (left_out, mode, named): (BTreeSet<String>, &str, BTreeSet<String>) = match mode.as_str() {
        "ALL_REGIONS" => return None,
        "ALL_REGIONS_EXCEPT_SPECIFIED" => {
            let rest: BTreeSet<String> = named - &further;
            let mode = if rest.is_empty() { "ALL_REGIONS" } else { "ALL_REGIONS_EXCEPT_SPECIFIED" };
            (named & &further, mode, rest)
        }
        // And `NO_REGIONS`, which names none.
        _ => (&further - named, "SPECIFIED_REGIONS", named | &further),
    };
    if left_out.is_empty() {
        return None;
    }
    let words = |regions: BTreeSet<String>, between: &str| regions.into_iter().collect::<Vec<_>>().join(between);
    let mut change = format!("{arn} --region-linking-mode {mode}");
    if !named.is_empty() {
        change.push_str(&format!(" --regions {}", words(named, " ")));
    }
    let what = format!("Security Hub's aggregation leaves out {}", words(left_out, ", "));
    Some(place.finding(&LEFT_OUT, &change, what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::tests::administrator;
    use super::*;

    const HOME: &str = "eu-central-1";

    fn aggregator(region: &str, mode: &str, named: &[&str]) -> Aggregator {
        let named = named.iter().map(|one| (*one).to_owned()).collect();
        Aggregator { arn: "arn:a".to_owned(), region: region.to_owned(), mode: mode.to_owned(), named }
    }

    fn judged(aggregator: &Aggregator, regions: &[&str]) -> Option<Finding> {
        let regions: Vec<Region> = regions.iter().map(|region| region.parse().unwrap()).collect();
        judge(&administrator(), aggregator, &regions)
    }

    #[test]
    fn what_ends_at_home_and_brings_every_region_is_as_it_should_be() {
        for (mode, named) in [
            ("ALL_REGIONS", &[][..]),
            ("ALL_REGIONS_EXCEPT_SPECIFIED", &["us-east-1"]),
            ("SPECIFIED_REGIONS", &["eu-west-1", "us-east-1"]),
        ] {
            assert_eq!(judged(&aggregator(HOME, mode, named), &[HOME, "eu-west-1"]), None, "{mode}");
        }
        // At home alone nothing can be left out.
        assert_eq!(judged(&aggregator(HOME, "NO_REGIONS", &[]), &[]), None);
        assert_eq!(judged(&aggregator(HOME, "ALL_REGIONS_EXCEPT_SPECIFIED", &["eu-west-1"]), &[HOME]), None);
    }

    #[test]
    fn one_that_ends_elsewhere_is_told_once() {
        let found = judged(&aggregator("us-east-1", "SPECIFIED_REGIONS", &["eu-north-1"]), &["eu-west-1"]).unwrap();
        assert_eq!(found.code, "aggregation-elsewhere");
        assert!(found.todo.contains("--finding-aggregator-arn arn:a`"), "{}", found.todo);
    }

    #[test]
    fn a_region_that_is_left_out_is_named_and_the_command_keeps_the_others() {
        let regions = ["eu-north-1", "eu-west-1"];
        for (mode, named, left_out, change) in [
            (
                "SPECIFIED_REGIONS",
                &["eu-west-1", "us-east-1"][..],
                "eu-north-1",
                "SPECIFIED_REGIONS --regions eu-north-1 eu-west-1 us-east-1",
            ),
            ("NO_REGIONS", &[], "eu-north-1, eu-west-1", "SPECIFIED_REGIONS --regions eu-north-1 eu-west-1"),
            (
                "ALL_REGIONS_EXCEPT_SPECIFIED",
                &["eu-west-1", "us-east-1"],
                "eu-west-1",
                "ALL_REGIONS_EXCEPT_SPECIFIED --regions us-east-1",
            ),
            ("ALL_REGIONS_EXCEPT_SPECIFIED", &["eu-west-1"], "eu-west-1", "ALL_REGIONS"),
        ] {
            let found = judged(&aggregator(HOME, mode, named), &regions).unwrap();
            assert_eq!(found.code, "aggregation-without-region");
            assert!(found.what.ends_with(&format!("leaves out {left_out}")), "{}", found.what);
            let told = format!("arn:a --region-linking-mode {change} --region {HOME}`");
            assert!(found.todo.ends_with(&told), "{}", found.todo);
        }
    }
}

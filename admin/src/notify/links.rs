//! Links into the AWS console. A link only opens for who may look there anyway.

use redress_common::arn::{Arn, Partition};
use redress_common::ids::Region;

use super::text::percent;
use super::{About, Told};

/// A link and what it shows.
pub(super) type Link = (&'static str, String);

/// The console of a partition, in a Region.
fn console(region: &Region) -> String {
    let host = match Partition::of_region(region) {
        Partition::Aws => "console.aws.amazon.com",
        Partition::UsGov => "console.amazonaws-us-gov.com",
        Partition::China => "console.amazonaws.cn",
    };
    format!("https://{region}.{host}")
}

/// The links of a message; `home` is the Region in which the administrator's Security Hub sees all.
pub(super) fn links(told: &Told, home: &Region) -> Vec<Link> {
    let at = console(home);
    match told.about {
        About::Test => Vec::new(),
        About::Alarm => {
            let region = told.region.as_ref().unwrap_or(home);
            let name = percent(&percent(&told.title));
            vec![("Alarm", format!("{}/cloudwatch/home?region={region}#alarmsV2:alarm/{name}", console(region)))]
        }
        About::Remediation => {
            let Ok(arn) = told.resource.parse::<Arn>() else { return Vec::new() };
            let resource = percent(&percent(arn.as_str()));
            // The console decodes its own fragment once more than a browser does.
            let search = format!("ResourceId%3D%255Coperator%255C%253AEQUALS%255C%253A{resource}");
            let findings = format!("{at}/securityhub/home?region={home}#/findings?search={search}");
            let mut links = vec![("Findings in Security Hub", findings)];
            // The console's own way from an ARN to a page, which the other partitions' consoles are not known to have.
            if arn.partition() == Partition::Aws {
                let view = percent(arn.as_str());
                links.push(("Resource", format!("https://console.aws.amazon.com/go/view?arn={view}")));
            }
            links
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::notify::tests::{alarm, told};

    fn of(resource: &str, home: &str) -> Vec<Link> {
        links(&Told { resource: resource.to_owned(), ..told("Failed") }, &home.parse().unwrap())
    }

    #[test]
    fn links_lead_to_the_console_of_the_partition() {
        let (findings, resource) = (&of("arn:aws:s3:::a b", "eu-central-1")[0], &of("arn:aws:s3:::b", "us-east-1")[1]);
        assert_eq!(
            findings.1,
            "https://eu-central-1.console.aws.amazon.com/securityhub/home?region=eu-central-1#/findings?search=ResourceId%3D\
             %255Coperator%255C%253AEQUALS%255C%253Aarn%253Aaws%253As3%253A%253A%253Aa%2520b"
        );
        assert_eq!(resource.1, "https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3As3%3A%3A%3Ab");
        let gov = of("arn:aws-us-gov:s3:::b", "us-gov-west-1");
        assert!(gov.len() == 1 && gov[0].1.starts_with("https://us-gov-west-1.console.amazonaws-us-gov.com/"));
        assert!(of("arn:aws-cn:s3:::b", "cn-north-1")[0].1.starts_with("https://cn-north-1.console.amazonaws.cn/"));
        assert!(of("redress:settings", "us-east-1").is_empty());
    }

    #[test]
    fn no_resource_breaks_out_of_its_link() {
        for (_, url) in of("arn:aws:s3:::b\"><a|&x=y#z", "us-east-1") {
            assert!(!url.contains(['"', '<', '>', '|', ' ']) && url.matches('#').count() <= 1, "{url}");
        }
    }

    #[test]
    fn an_alarm_leads_to_its_own_page() {
        let url = &links(&alarm("ALARM"), &"us-east-1".parse().unwrap())[0].1;
        assert_eq!(
            url,
            "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#alarmsV2:alarm/redress-publish-failed"
        );
    }
}

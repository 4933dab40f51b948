//! Certificates that are about to expire.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Ask, Planned, Setting, Subject, at};
use crate::native::NativeError;
use crate::wire::{Operation, Protocol, Service};

static ACM: Service = Service::of("acm", Protocol::Json { target: "CertificateManager", version: "1.1" });
static DESCRIBE: Operation = ACM.operation("DescribeCertificate");
static RENEW: Operation = ACM.operation("RenewCertificate");

const DAY: i64 = 86_400;

/// Certificates are renewed before they expire. ACM renews on request what can be exported; what it renews by itself, or not
/// at all, is left alone, and people are told the steps.
pub(super) static CERTIFICATE_RENEWAL: Setting = Setting {
    name: "certificate_renewal",
    missing: &["ResourceNotFoundException"],
    changes: &[&RENEW],
    next: |subject, answers| Ask::once(answers, &DESCRIBE, json!({ "CertificateArn": subject.arn.to_string() })),
    state: |subject, answers| {
        let certificate = answers.first()?.pointer("/Certificate")?;
        let last = Timestamp::now().as_second() + subject.number("DaysToExpiration").ok()? * DAY;
        // ACM tells a time in seconds, with a fraction.
        let end = certificate["NotAfter"].to_string().split('.').next().and_then(|end| end.parse::<i64>().ok());
        Some(json!({
            "Type": certificate["Type"],
            "Status": certificate["Status"],
            "NotAfter": certificate["NotAfter"],
            "IsDue": end.is_some_and(|end| end <= last),
            "RenewalEligibility": certificate["RenewalEligibility"],
            "RenewalStatus": at(certificate, "/RenewalSummary/RenewalStatus"),
            "Export": at(certificate, "/Options/Export"),
        }))
    },
    fix: renewed,
    undo: |_, _, _| {
        Err(NativeError::Refused("a renewal cannot be taken back; the former certificate is valid until it expires"))
    },
};

fn renewed(subject: &Subject, now: &Value) -> Planned {
    let text = |name: &str| now[name].as_str().unwrap_or_default();
    // Under way: ACM needs nothing more.
    if now["IsDue"] != true || text("RenewalStatus") == "PENDING_AUTO_RENEWAL" {
        return Ok(vec![]);
    }
    let refused = |steps: &'static str| Err(NativeError::Refused(steps));
    match (text("Type"), text("Status"), text("RenewalStatus")) {
        ("IMPORTED", _, _) => refused(
            "the certificate was imported, so ACM cannot renew it; get a new one from its authority, and import it with this ARN: aws acm import-certificate --certificate-arn ARN --certificate fileb://CERTIFICATE --private-key fileb://KEY --certificate-chain fileb://CHAIN",
        ),
        (_, "EXPIRED" | "REVOKED" | "FAILED" | "VALIDATION_TIMED_OUT", _) => refused(
            "the certificate is no longer valid, so ACM cannot renew it; request a new one, and put it where this one is used (InUseBy of aws acm describe-certificate)",
        ),
        (_, _, "PENDING_VALIDATION") => refused(
            "ACM renews the certificate by itself and waits for the proof that the domain is yours; put the CNAME records back that aws acm describe-certificate shows under DomainValidationOptions, or follow the link in ACM's mail",
        ),
        _ if text("RenewalEligibility") != "ELIGIBLE" => refused(
            "the certificate is not eligible for renewal, for nothing uses it and it was never exported; delete it, or put it to use, and ACM renews it",
        ),
        ("PRIVATE", _, _) => Ok(vec![(&RENEW, json!({ "CertificateArn": subject.arn.to_string() }))]),
        _ if text("Export") == "ENABLED" => Ok(vec![(&RENEW, json!({ "CertificateArn": subject.arn.to_string() }))]),
        _ => refused(
            "ACM renews the certificate by itself and does not do it on request; look at RenewalSummary of aws acm describe-certificate, at its CNAME records and at CAA records of the domain, which must allow amazon.com",
        ),
    }
}

//! The whole way, from records to figures, page and files, over ledgers made of real record types.
#![allow(clippy::unwrap_used)]

use clap::Parser as _;
use proptest::prelude::*;
use redress_common::arn::Arn;
use redress_common::finding::SeverityLabel;
use redress_common::ids::AccountId;
use redress_common::ledger::{RecordDraft, detail};

use super::demo::{Fate, Subject, sealed, story, undo};
use super::figures::{Rate, Spread, Standing, figures};
use super::*;

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// 2026-10-01T00:00:00Z.
const OCTOBER: i64 = 1_790_812_800_000;

fn account() -> AccountId {
    "222222222222".parse().unwrap()
}

fn subject(control: &str, severity: SeverityLabel, bucket: &str) -> Subject {
    Subject {
        account: account(),
        region: "eu-central-1".parse().unwrap(),
        control: control.parse().unwrap(),
        severity,
        arn: format!("arn:aws:s3:::{bucket}").parse::<Arn>().unwrap(),
        kind: "AWS::S3::Bucket",
        action: "Block public access".to_owned(),
    }
}

/// Of everything one: what a month may hold.
fn october() -> Vec<RecordDraft> {
    let high = |name: &str| subject("S3.8", SeverityLabel::High, name);
    let medium = |name: &str| subject("S3.5", SeverityLabel::Medium, name);
    let at = |day: i64| OCTOBER + day * DAY;
    let mut drafts = Vec::new();
    let mut tell = |subject: Subject, at: i64, before: i64, fate: Fate| {
        let (id, told) = story(&subject, at, before, fate);
        drafts.extend(told);
        id
    };
    // Fixed in time, too late, and again after five days.
    tell(high("one"), at(1), HOUR, Fate::Fixed(10 * SECOND));
    tell(high("two"), at(2), 10 * DAY, Fate::Fixed(20 * SECOND));
    tell(high("one"), at(6), HOUR, Fate::Fixed(30 * SECOND));
    // Fixed in September, and put back and fixed anew in October: no repetition.
    let kept = tell(medium("three"), at(-10), HOUR, Fate::Fixed(10 * SECOND));
    let undone = tell(medium("four"), at(3), HOUR, Fate::Fixed(40 * SECOND));
    tell(high("five"), at(4), HOUR, Fate::AlreadyCompliant);
    tell(high("six"), at(5), HOUR, Fate::Failed);
    tell(high("seven"), at(5), 9 * DAY, Fate::Unverified);
    tell(high("eight"), at(7), HOUR, Fate::Gone);
    tell(high("nine"), at(8), HOUR, Fate::Undecided);
    tell(medium("ten"), at(9), HOUR, Fate::Told);
    tell(medium("eleven"), at(10), HOUR, Fate::Exempt);
    tell(medium("twelve"), at(11), HOUR, Fate::Ignored);
    tell(medium("thirteen"), at(12), HOUR, Fate::Approved(3 * HOUR));
    tell(medium("fourteen"), at(13), HOUR, Fate::Denied);
    tell(medium("fifteen"), at(14), HOUR, Fate::Expired);
    tell(medium("sixteen"), at(30), HOUR, Fate::Asked);
    tell(medium("seventeen"), at(30), HOUR, Fate::Waiting);
    tell(medium("eighteen"), at(30), HOUR, Fate::Running);
    // Not of October: it ended in September, and in November.
    tell(high("old"), at(-3), HOUR, Fate::Fixed(10 * SECOND));
    tell(high("new"), at(31), HOUR, Fate::Fixed(10 * SECOND));
    drafts.extend(undo(&medium("four"), undone, at(4), false));
    drafts.extend(undo(&medium("three"), kept, at(15), true));
    drafts
}

fn facts(drafts: Vec<RecordDraft>) -> Facts {
    let mut fold = Fold::default();
    for record in sealed(&account(), drafts) {
        if record.draft.timestamp < OCTOBER + 31 * DAY {
            fold.add(&record);
        }
    }
    fold.facts()
}

fn asked(flags: &[&str]) -> Report {
    let arguments = crate::args::Arguments::try_parse_from(["redress", "report"].iter().chain(flags)).unwrap();
    let crate::args::Command::Report(asked) = arguments.command else { unreachable!() };
    *asked
}

fn report(drafts: Vec<RecordDraft>, flags: &[&str]) -> Content {
    let asked = asked(flags);
    let catalogue = controls::catalogue().unwrap();
    let controls = controls_of(&asked, &catalogue).unwrap();
    let period = Period::month("2026-10").unwrap();
    let facts = facts(drafts);
    let verification =
        Verification { verdict: Verdict::Verified, chains: 1, ..Verification::unchecked(facts.records, None) };
    let made = "2026-11-02T08:00:00Z".parse().unwrap();
    content(&asked, period, controls.as_ref(), facts, verification, &catalogue, made).unwrap()
}

#[test]
fn a_sample_counts_nowhere() {
    let mut drafts = october();
    for fate in [Fate::Told, Fate::Failed, Fate::Fixed(10 * SECOND)] {
        let (_, told) = story(&subject("S3.8", SeverityLabel::High, "sampled"), OCTOBER + 12 * DAY, HOUR, fate);
        drafts.extend(told.into_iter().map(|mut draft| {
            draft.detail.insert(detail::SAMPLE.to_owned(), "true".to_owned());
            draft
        }));
    }
    assert_eq!(report(drafts, &[]).figures, report(october(), &[]).figures);
}

#[test]
fn a_month_of_everything_is_counted_as_the_definitions_say() {
    let figures = report(october(), &[]).figures;
    let all = &figures.all;
    assert_eq!((all.ends.fixed, all.ends.already_compliant, all.ends.failed, all.ends.unverified), (5, 1, 1, 1));
    assert_eq!((all.ends.gone, all.ends.undecided, all.ends.told, all.ends.exempt), (1, 1, 1, 1));
    assert_eq!((all.ends.ignored, all.ends.denied, all.ends.expired), (1, 1, 1));
    assert_eq!(all.attempts, 8);
    assert_eq!((all.success, all.failure), (Rate { part: 6, of: 8 }, Rate { part: 2, of: 8 }));
    assert_eq!((all.repeat, all.undo), (Rate { part: 1, of: 5 }, Rate { part: 1, of: 8 }));
    // One pair was fixed twice; September's pair is settled, and nothing of October.
    assert_eq!(all.standing.total(), 17);
    assert_eq!((all.standing.of(Standing::Settled), all.standing.of(Standing::Declined)), (5, 2));
    assert_eq!((all.standing.of(Standing::Failed), all.standing.of(Standing::Told)), (3, 1));
    assert_eq!(all.backlog, Rate { part: 8, of: 17 });
    let spread = all.since_event.unwrap();
    assert_eq!((spread.count, spread.median, spread.p90), (5, 30_001, 3 * HOUR + 9_001));
    assert_eq!(all.since_first_seen.unwrap().p90, 10 * DAY + 20_001);
    let high = figures.by_severity.iter().find(|group| group.name == "HIGH").unwrap();
    assert_eq!((high.sla.met, high.sla.late, high.sla.overdue, high.sla.pending), (2, 1, 3, 0));
    let asked = &figures.approvals;
    assert_eq!(
        (asked.asked, asked.approved, asked.denied, asked.expired, asked.waiting, asked.void),
        (4, 1, 1, 1, 1, 0)
    );
    assert_eq!((figures.undos.put_back, figures.undos.drifted), (1, 1));
    assert_eq!((figures.saved.kept_fixes, figures.saved.answers, figures.saved.failures), (4, 2, 2));
    assert!((figures.saved.hours - 0.8).abs() < 0.05, "4 × 30 − 2 × 5 − 2 × 30 minutes: {}", figures.saved.hours);
    assert_eq!(figures.trend.iter().map(|point| point.fixed).sum::<u64>(), 5);
}

#[test]
fn what_a_person_says_of_an_incident_is_no_finding() {
    let resource = subject("S3.8", SeverityLabel::High, "one");
    let counted = |drafts| {
        let all = report(drafts, &[]).figures.all;
        (all.ends.told, all.standing.total(), all.backlog)
    };
    for (code, changes) in [("case-closed", false), ("escalated", false), ("notify", true)] {
        let (_, mut said) = story(&resource, OCTOBER + 20 * DAY, HOUR, Fate::Told);
        for draft in &mut said {
            draft.detail.insert("Code".to_owned(), code.to_owned());
        }
        assert_eq!(counted([october(), said].concat()) != counted(october()), changes, "{code}");
    }
}

#[test]
fn filters_limit_what_is_counted() {
    let of = |flags: &[&str]| report(october(), flags).figures.all.attempts;
    assert_eq!(of(&["--control", "S3.5"]), 2);
    assert_eq!(of(&["--severity", "high"]), 6);
    assert_eq!(of(&["--framework", "cis v3"]), 8, "S3.8 is 2.1.4 and S3.5 is 2.1.1");
    assert_eq!(of(&["--framework", "cis v3", "--control", "KMS.4"]), 0);
    assert_eq!(of(&["--framework", "hipaa"]), 2, "S3.5 is mapped to it");
    assert_eq!(of(&["--framework", "soc 2"]), 2);
    let catalogue = controls::catalogue().unwrap();
    let problem = controls_of(&asked(&["--framework", "FedRAMP"]), &catalogue).unwrap_err();
    assert_eq!(problem.exit(), Exit::NotFound, "what is not mapped is not guessed");
}

#[test]
fn a_unit_holds_the_accounts_that_decisions_place_in_it() {
    let mut drafts = october();
    let placed = |drafts: &mut Vec<RecordDraft>, path: &str| {
        for draft in drafts {
            if let Some(question) = draft.detail.get_mut(detail::QUESTION) {
                let mut asked: serde_json::Value = serde_json::from_str(question).unwrap();
                let facts = json!({ "Account": "222222222222", "Name": "web", "OuPath": ["r-ab12", path], "Tags": {}, "ReadAt": 0 });
                asked["AccountFacts"] = facts;
                *question = asked.to_string();
            }
        }
    };
    placed(&mut drafts, "ou-ab12-prod");
    assert_eq!(report(drafts.clone(), &["--ou", "ou-ab12-prod"]).figures.all.attempts, 8);
    assert_eq!(report(drafts, &["--ou", "ou-ab12-dev"]).figures.all.attempts, 0);
}

#[test]
fn evidence_leads_from_requirement_to_control_to_remediation_and_object() {
    let content = report(october(), &["--framework", "CIS v3.0.0"]);
    let [framework] = &content.evidence.frameworks[..] else { unreachable!() };
    let requirement = framework.requirements.iter().find(|requirement| requirement.requirement == "2.1.4").unwrap();
    assert!(requirement.controls.iter().any(|control| control.as_str() == "S3.8"));
    assert_eq!(
        (requirement.fixed, requirement.failed, requirement.open, requirement.says()),
        (3, 2, 3, "open failures")
    );
    let shown = &content.evidence.controls[&"S3.8".parse().unwrap()];
    assert_eq!(shown.items.iter().filter(|item| item.shows == frameworks::Shows::Open).count(), 3);
    let fixed = shown.items.iter().find(|item| item.shows == frameworks::Shows::Fixed).unwrap();
    assert_eq!(fixed.evidence_bucket, "security-remediation-logs-222222222222-eu-central-1");
    assert!(fixed.evidence_key.ends_with(&format!("remediation-{}.json", fixed.remediation_id)));
    assert!(content.evidence.not_mapped.is_empty(), "{:?}", content.evidence.not_mapped);
    let exempt = &content.evidence.controls[&"S3.5".parse().unwrap()];
    let exempt = exempt.items.iter().find(|item| item.shows == frameworks::Shows::Exempt).unwrap();
    assert!(exempt.note.starts_with("legacy: exemption `legacy` of team web"), "{}", exempt.note);
}

#[test]
fn the_text_of_a_month_says_figures_with_their_units_and_assumptions() {
    let content = report(october(), &["--framework", "CIS v3.0.0"]);
    let text = summary(&content, &tables(&content), Style::PLAIN);
    for line in [
        "Remediation report, 2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z\nRecords verified: yes.",
        "framework CIS v3.0.0",
        "75.0 % (6 of 8)",
        "median 1 h, 90th percentile 10 d, mean 2 d 1 h",
        "median 30 s, 90th percentile 3 h, mean 36 min 21 s",
        "assuming 30 min by hand, 5 min an answer, 30 min a failure, 80 USD an hour, 0.033 USD a run",
        "How this was counted: --table definitions.",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(text.is_ascii(), "a log shows it");
}

#[test]
fn the_rates_of_a_month_as_a_file() {
    let content = report(october(), &["--framework", "CIS v3.0.0"]);
    let tables = tables(&content);
    let rates = tables.iter().find(|table| table.name == "rates").unwrap();
    let lines = [
        "Rate,Value (fraction),Part,Of",
        "Success rate,0.75,6,8",
        "Failure rate,0.25,2,8",
        "Repeat rate,0.2,1,5",
        "Undo rate,0.125,1,8",
        "Backlog rate,0.4706,8,17",
        "Target met,0.5,4,8",
    ];
    assert_eq!(csv::csv(rates), lines.map(|line| format!("{line}\r\n")).concat());
}

#[test]
fn the_figures_of_a_month_as_json() {
    let content = serde_json::to_value(report(october(), &["--control", "S3.5", "--sla", "LOW=none"])).unwrap();
    assert_eq!(content["Targets"], json!({ "CRITICAL": 86_400, "HIGH": 604_800, "MEDIUM": 2_592_000 }));
    let all = &content["Figures"]["All"];
    assert_eq!(all["Success"], json!({ "Part": 2, "Of": 2, "Value": 1.0 }));
    let times = json!({ "Count": 2, "MedianSeconds": 40.001, "P90Seconds": 10_809.001, "MeanSeconds": 5_424.501 });
    assert_eq!(all["SinceEvent"], times);
    assert_eq!(all["Standing"]["Declined"], 2);
    assert_eq!(content["Period"]["From"], "2026-10-01T00:00:00Z");
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let page = html::page(&report(october(), &[]));
    for foreign in ["<script", "http://", "https://", "src=", "@import", "<link", "onload", "javascript:", "style=\""] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style.as_bytes()));
    assert!(page.contains(&format!("style-src &#39;sha256-{hash}&#39;")), "the policy names this style sheet");
    assert!(page.contains("Content-Security-Policy") && page.contains("default-src &#39;none&#39;"));
    for (name, _) in definitions::DEFINITIONS {
        assert!(page.contains(&format!("<dt>{name}</dt>")), "{name} is explained on the page");
    }
    for chart in page.split("<svg class=\"chart").skip(1) {
        assert!(chart.contains("<title id=") && chart.contains("<desc id="), "a chart without words");
    }
}

#[test]
fn links_of_a_page_lead_somewhere() {
    let page = html::page(&report(october(), &[]));
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

#[test]
fn made_up_data_says_so_on_the_page_and_in_the_text() {
    let mut content = report(october(), &[]);
    content.verification.verdict = Verdict::MadeUp;
    assert!(html::page(&content).contains("Every account, resource and number on this page is made up"));
    assert!(summary(&content, &tables(&content), Style::PLAIN).contains("made up"));
}

#[test]
fn a_broken_chain_is_told_first_and_ends_in_failure() {
    let mut records = sealed(&account(), october());
    records[3].draft.notification_sent ^= true;
    let mut chains = Chains::default();
    records.iter().for_each(|record| chains.add(record));
    let mut content = report(october(), &[]);
    content.verification =
        Verification::of(records.len() as u64, None, chains.verdicts(&std::collections::BTreeMap::new()));
    let answer = answer(&asked(&[]), &content, Style::PLAIN).unwrap();
    assert!(
        answer.text().contains("Records verified: NO") && answer.text().contains("Seq 4 was altered"),
        "{}",
        answer.text()
    );
    assert_eq!(
        Output::new(&crate::args::Arguments::try_parse_from(["redress", "report", "--json"]).unwrap().global)
            .answer(&answer),
        Exit::Failed
    );
}

#[test]
fn an_empty_period_has_a_page_too() {
    let content = report(Vec::new(), &[]);
    assert_eq!(content.figures.all.success.value(), None, "of nothing there is no rate");
    let page = html::page(&content);
    assert!(page.contains("Nothing was fixed in the period.") && !page.contains("NaN"));
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        (1..40 * DAY).prop_map(Fate::Fixed),
        (1..40 * DAY).prop_map(Fate::Approved),
        prop::sample::select(vec![
            Fate::AlreadyCompliant,
            Fate::Unverified,
            Fate::Failed,
            Fate::Gone,
            Fate::Undecided,
            Fate::Told,
            Fate::Exempt,
            Fate::Ignored,
            Fate::Denied,
            Fate::Expired,
            Fate::Asked,
            Fate::Waiting,
            Fate::Running,
        ]),
    ]
}

/// Any ledger of a few resources: what happened, when, and what was undone.
fn any_ledger() -> impl Strategy<Value = Vec<RecordDraft>> {
    let control = prop::sample::select(vec![
        ("S3.8", SeverityLabel::High),
        ("S3.5", SeverityLabel::Medium),
        ("KMS.4", SeverityLabel::Medium),
        ("EC2.19", SeverityLabel::Critical),
        ("Own.1", SeverityLabel::Informational),
    ]);
    let one = (control, 0..4u8, -40 * DAY..35 * DAY, 0..60 * DAY, any_fate(), 0..4u8);
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let mut drafts = Vec::new();
        for ((control, severity), bucket, at, before, fate, undoing) in all {
            let subject = subject(control, severity, &format!("bucket-{bucket}"));
            let (id, told) = story(&subject, OCTOBER + at, before, fate);
            let end = told.last().map_or(at, |draft| draft.timestamp);
            drafts.extend(told);
            if undoing < 2 {
                drafts.extend(undo(&subject, id, end + HOUR, undoing == 1));
            }
        }
        drafts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rates_are_parts_and_sums_agree(drafts in any_ledger()) {
        let content = report(drafts, &[]);
        let figures = &content.figures;
        let groups = [&figures.by_severity, &figures.by_control, &figures.by_account];
        for group in groups.into_iter().flatten().chain([&figures.all]) {
            for rate in [group.success, group.failure, group.repeat, group.undo, group.backlog, group.sla_met] {
                prop_assert!(rate.part <= rate.of, "{}: {rate:?}", group.name);
                prop_assert!(rate.value().is_none_or(|value| (0.0..=1.0).contains(&value)));
            }
            prop_assert_eq!(group.success.part + group.failure.part, group.attempts);
            prop_assert_eq!(group.since_event.map_or(0, |spread| spread.count), group.ends.fixed);
            for spread in [group.since_first_seen, group.since_event].into_iter().flatten() {
                prop_assert!(0 <= spread.median && spread.median <= spread.p90);
            }
        }
        for groups in groups {
            prop_assert_eq!(groups.iter().map(|group| group.attempts).sum::<u64>(), figures.all.attempts);
            prop_assert_eq!(groups.iter().map(|group| group.ends.fixed).sum::<u64>(), figures.all.ends.fixed);
            prop_assert_eq!(groups.iter().map(|group| group.standing.total()).sum::<u64>(), figures.all.standing.total());
            prop_assert_eq!(groups.iter().map(|group| group.sla.overdue).sum::<u64>(), figures.all.sla.overdue);
        }
        let answers = &figures.approvals;
        prop_assert_eq!(answers.asked, answers.approved + answers.denied + answers.expired + answers.waiting + answers.void);
        prop_assert_eq!(figures.trend.iter().map(|point| point.fixed).sum::<u64>(), figures.all.ends.fixed);
        let shown = content.evidence.controls.values();
        prop_assert_eq!(shown.map(|shown| shown.open).sum::<u64>(), figures.all.backlog.part);
    }

    #[test]
    fn the_order_in_which_records_are_read_does_not_matter(drafts in any_ledger(), seed in any::<u64>()) {
        let records = sealed(&account(), drafts);
        let read = |records: &[Record]| {
            let mut fold = Fold::default();
            records.iter().for_each(|record| fold.add(record));
            fold.facts()
        };
        let mut shuffled = records.clone();
        let mut random = seed;
        for last in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(last, usize::try_from(random >> 33).unwrap() % (last + 1));
        }
        prop_assert_eq!(read(&shuffled), read(&records));
    }

    #[test]
    fn percentiles_grow_and_lie_among_the_samples(samples in prop::collection::vec(0..i64::MAX / 2, 1..200)) {
        let spread = Spread::of(samples.clone()).unwrap();
        let (least, most) = (samples.iter().min().unwrap(), samples.iter().max().unwrap());
        prop_assert!(*least <= spread.median && spread.median <= spread.p90 && spread.p90 <= *most);
        prop_assert!(*least <= spread.mean && spread.mean <= *most);
        prop_assert!(samples.contains(&spread.median) && samples.contains(&spread.p90));
        let below = samples.iter().filter(|sample| **sample <= spread.p90).count();
        prop_assert!(below * 10 >= samples.len() * 9);
    }

    #[test]
    fn no_text_of_a_record_becomes_markup(hostile in "\\PC{0,40}|<script>alert\\(1\\)</script>|\" onload=\"x|\\]\\]><svg/onload=1>") {
        let mut drafts = october();
        for draft in &mut drafts {
            draft.resource_id.clone_from(&hostile);
            draft.error_message.clone_from(&hostile);
            draft.detail.insert(detail::REGION.to_owned(), hostile.clone());
            draft.detail.insert(detail::REASON.to_owned(), hostile.clone());
            draft.detail.insert(detail::UNDONE_BY.to_owned(), hostile.clone());
            draft.detail.insert(detail::EVIDENCE_BUCKET.to_owned(), hostile.clone());
            draft.detail.insert(detail::EVIDENCE_KEY.to_owned(), hostile.clone());
            draft.detail.insert(detail::POLICIES.to_owned(), format!("exemption.{hostile}"));
        }
        let mut content = report(drafts, &[]);
        content.filters.push(hostile.clone());
        content.notes.push(hostile);
        let page = html::page(&content);
        let known = ["html", "head", "meta", "title", "style", "body", "a", "svg", "defs", "pattern", "rect", "path", "header", "h1", "p",
            "dl", "div", "dt", "dd", "nav", "ul", "li", "main", "section", "h2", "figure", "figcaption", "desc", "g", "text", "line",
            "circle", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "code", "br", "span", "strong", "footer", "!doctype"];
        for tag in page.split('<').skip(1) {
            let name: String = tag.trim_start_matches('/').chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '!').collect();
            prop_assert!(known.contains(&name.as_str()), "<{}", tag.chars().take(40).collect::<String>());
            let inside = tag.split('>').next().unwrap_or_default();
            prop_assert!(!inside.contains(" on"), "an attribute that runs something: {}", inside);
        }
    }
}

#[test]
fn the_made_up_ledger_is_counted_whole() {
    let mut fold = Fold::default();
    let mut records = 0u64;
    demo::some(|record| {
        records += 1;
        fold.add(record);
    });
    let facts = fold.facts();
    assert_eq!(facts.records, records);
    let period = demo::period().unwrap();
    let figures = figures(&facts.cases, &period, &asked(&[]).targets(), asked(&[]).assumptions());
    assert!(figures.all.attempts > 100, "{}", figures.all.attempts);
    assert_eq!(figures.by_account.len(), 3);
    let part = |count: fn(&figures::Point) -> u64| figures.trend.iter().map(count).sum::<u64>();
    assert_eq!(part(|point| point.fixed), figures.all.ends.fixed);
}

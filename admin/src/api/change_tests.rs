#![allow(clippy::unwrap_used, clippy::panic)]

use redress_common::aws::state_table;

use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";
const POLICY: &str = r#"@id("tell.all") permit (principal, action == Redress::Action::"Notify", resource);"#;

fn by() -> Arn {
    "arn:aws:sts::999999999999:assumed-role/Redress-Operator/jo".parse().unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// What a request makes of these items.
fn ask(request: &Request, items: Vec<Also>) -> Result<Step, Refused> {
    ask_with(request, items, None)
}

fn ask_with(request: &Request, items: Vec<Also>, old: Option<&PolicyItem>) -> Result<Step, Refused> {
    let item = |also| match also {
        Also::Put { item, .. } => item,
        other => panic!("{other:?}"),
    };
    let stored = items.into_iter().map(item).collect();
    let keys = keys(request)?;
    let (by, administrator) = (by(), "999999999999".parse().unwrap());
    step(request, &Snapshot::new(&keys, stored), old, Asking { by: &by, administrator: &administrator, now: now() })
}

fn changed(request: &Request, items: Vec<Also>) -> Change {
    match ask(request, items) {
        Ok(Step::Change(change)) => *change,
        other => panic!("{other:?}"),
    }
}

fn code(request: &Request, items: Vec<Also>) -> (u16, &'static str) {
    let refused = ask(request, items).unwrap_err();
    (refused.status, refused.code)
}

fn stored<T: Serialize>(key: StateKey, value: &T) -> Also {
    Also::put(key, value, Expect::Anything).unwrap()
}

fn with(settings: &Settings) -> Vec<Also> {
    vec![stored(StateKey::Settings, settings)]
}

fn settings_of(change: &Change) -> Settings {
    let Also::Put { item, .. } = &change.also[0] else { panic!("{change:?}") };
    Snapshot::new(&[StateKey::Settings], vec![item.clone()]).settings().unwrap()
}

fn request(json: Value) -> Request {
    serde_json::from_value(json).unwrap()
}

fn off(scope: Value) -> Request {
    request(json!({ "Operation": "Switch", "To": "off", "Scope": scope, "Reason": "incident 4711" }))
}

fn on(scope: Value) -> Request {
    request(json!({ "Operation": "Switch", "To": "on", "Scope": scope, "Reason": "over" }))
}

#[test]
fn a_switch_says_who_when_and_why_and_is_written_over_what_was_read_only() {
    let before = Settings { version: 4, policy_set: PolicySetName::Pilot, ..Settings::default() };
    let change = changed(&off(json!({})), with(&before));
    let after = settings_of(&change);
    assert_eq!((after.version, after.switch, after.policy_set), (5, Switch::Off, PolicySetName::Pilot));
    assert_eq!(
        (after.changed_by, after.changed_at, after.change_reason.as_str()),
        (by().to_string(), Some(now()), "incident 4711")
    );
    assert_eq!((change.before.as_str(), change.after.as_str()), ("on", "off"));
    assert!(matches!(change.also[0], Also::Put { expect: Expect::Version(4), .. }));
    assert_eq!(after.acting_since, None, "stopping makes nothing a backlog");
}

#[test]
fn a_scoped_switch_leaves_the_others_and_turning_it_on_removes_it() {
    let account: AccountId = "111122223333".parse().unwrap();
    let before = Settings { ous: [("ou-ab12-cd34ef56".to_owned(), Switch::Off)].into(), ..Settings::default() };
    let after = settings_of(&changed(&off(json!({ "Account": account })), with(&before)));
    assert_eq!((after.switch, after.accounts.get(&account)), (Switch::On, Some(&Switch::Off)));
    assert_eq!(after.ous.len(), 1);
    let again = settings_of(&changed(&on(json!({ "Account": account })), with(&after)));
    assert!(again.accounts.is_empty());
    assert_eq!(again.acting_since, Some(now()), "what failed meanwhile is a backlog");
    let idle = settings_of(&changed(&on(json!({ "Account": account })), with(&before)));
    assert_eq!(idle.acting_since, None, "it was on");
}

#[test]
fn a_switch_is_about_one_thing_that_can_be() {
    let two = off(json!({ "Account": "111122223333", "Control": "S3.8" }));
    assert_eq!(code(&two, vec![]), (400, "two-scopes"));
    for wrong in ["prod", "ou-", "ou-ab12", "r-", "ou-AB12-cd34ef56"] {
        assert_eq!(code(&off(json!({ "Ou": wrong })), vec![]), (400, "bad-ou"), "{wrong}");
    }
    assert!(ask(&off(json!({ "Ou": "r-ab12" })), vec![]).is_ok());
}

#[test]
fn settings_that_a_person_wrote_by_hand_can_be_changed() {
    let item = state_table::encode(&StateKey::Settings, &json!({ "PolicySet": "pilot" })).unwrap();
    let also = Also::Put { key: StateKey::Settings, item: item.clone(), expect: Expect::Anything };
    let change = changed(&off(json!({})), vec![also]);
    assert!(change.also[0].apply(Some(&item)).is_ok(), "no version is version 0");
}

#[test]
fn a_set_that_does_more_begins_with_what_fails_from_now_on() {
    let to = |set: &str| request(json!({ "Operation": "Settings", "PolicySet": set, "Reason": "CHG-1" }));
    let pilot = Settings { policy_set: PolicySetName::Pilot, ..Settings::default() };
    assert_eq!(settings_of(&changed(&to("standard"), with(&pilot))).acting_since, Some(now()));
    assert_eq!(settings_of(&changed(&to("observe"), with(&pilot))).acting_since, None);
    assert!(matches!(ask(&to("pilot"), with(&pilot)), Ok(Step::Same(_))));
    assert_eq!(code(&to("custom"), with(&pilot)), (400, "custom"));
    let more = request(json!({ "Operation": "Settings", "PilotAccounts": ["111122223333"], "Reason": "" }));
    assert_eq!(settings_of(&changed(&more, with(&pilot))).acting_since, Some(now()));
}

#[test]
fn limits_zones_and_calendars_keep_their_bounds() {
    let set = |given: Value| {
        let mut all = json!({ "Operation": "Settings", "Reason": "" });
        all.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        request(all)
    };
    for (name, value) in [("InFlight", 0), ("InFlight", 246), ("ApprovalSeconds", 1), ("Everything", 1)] {
        assert_eq!(code(&set(json!({ "Limits": { name: value } })), vec![]), (400, "bad-limit"), "{name}");
    }
    let after = settings_of(&changed(&set(json!({ "Limits": { "AccountPerHour": 3, "InFlight": 5 } })), vec![]));
    assert_eq!((after.limits.account_per_hour, after.limits.in_flight), (3, 5));
    assert_eq!(code(&set(json!({ "TimeZone": "Mars/Olympus" })), vec![]), (400, "bad-time-zone"));
    let berlin = settings_of(&changed(&set(json!({ "TimeZone": "Europe/Berlin" })), vec![]));
    assert_eq!(berlin.time_zone.as_deref(), Some("Europe/Berlin"));
    let foreign = "arn:aws:ssm:eu-central-1:111122223333:document/freeze";
    assert_eq!(code(&set(json!({ "ChangeCalendars": [foreign] })), vec![]), (400, "bad-calendar"));
    let own = foreign.replace("111122223333", "999999999999");
    let change = changed(&set(json!({ "ChangeCalendars": [own] })), vec![]);
    assert_eq!(settings_of(&change).change_calendars.len(), 1);
    assert_eq!(change.before, r#"{"ChangeCalendars":[]}"#, "only what differs");
}

fn policy(source: &str) -> Request {
    request(json!({ "Operation": "PolicySet", "Source": source, "Reason": "ours" }))
}

#[test]
fn a_policy_set_that_does_not_validate_never_loads() {
    for wrong in [
        "permit",
        "permit (principal, action, resource);",
        r#"@id("x") permit (principal, action == Redress::Action::"Fly", resource);"#,
    ] {
        assert_eq!(code(&policy(wrong), vec![]), (400, "invalid-policies"), "{wrong}");
    }
    assert_eq!(code(&policy(&" ".repeat(MAX_SOURCE + 1)), vec![]), (400, "too-large"));
}

#[test]
fn a_policy_set_is_kept_under_its_version_and_the_same_one_is_no_change() {
    let change = changed(&policy(POLICY), with(&Settings::default()));
    let keys: Vec<String> = change.also.iter().map(|also| also.key().to_string()).collect();
    assert_eq!(keys, ["settings", "policy", "policy#1"]);
    assert!(matches!(change.also[2], Also::Put { expect: Expect::Absent, .. }), "history is never written over");
    let after = settings_of(&change);
    assert_eq!((after.policy_set, after.acting_since), (PolicySetName::Custom, Some(now())));
    assert!(matches!(ask(&policy(POLICY), change.also[..2].to_vec()), Ok(Step::Same(_))));
}

#[test]
fn a_rollback_is_a_new_version_with_an_old_text_and_past_the_first_the_shipped_set() {
    let back = |to: Option<u64>| request(json!({ "Operation": "PolicyRollback", "To": to, "Reason": "wrong" }));
    // As a stack or an older release wrote them: nobody said which shipped set came before.
    let standard = Settings { policy_set: PolicySetName::Standard, ..Settings::default() };
    assert_eq!(code(&back(None), with(&standard)), (404, "no-policy"));
    let first = changed(&policy(POLICY), with(&standard));
    let other = POLICY.replace("tell.all", "tell.everything");
    let second = changed(&policy(&other), first.also[..2].to_vec());
    let Also::Put { item, .. } = &first.also[2] else { panic!() };
    let old: PolicyItem = redress_common::aws::item::decode("x", item).unwrap();
    let Ok(Step::Change(third)) = ask_with(&back(None), second.also[..2].to_vec(), Some(&old)) else { panic!() };
    assert_eq!(third.also[2].key().to_string(), "policy#3");
    assert!(third.after.ends_with(&old.sha256), "{}", third.after);
    let shipped = changed(&back(None), first.also[..2].to_vec());
    assert_eq!(settings_of(&shipped).policy_set, PolicySetName::Standard);
    assert_eq!(code(&back(Some(9)), first.also[..2].to_vec()), (404, "no-such-version"));

    let policy_of = |change: &Change| -> PolicyItem {
        let Also::Put { item, .. } = &change.also[1] else { panic!() };
        redress_common::aws::item::decode("x", item).unwrap()
    };
    let before = |change: &Change| version_before(&settings_of(change), Some(&policy_of(change)));
    assert_eq!((before(&first), before(&second), before(&third)), (None, Some(1), Some(2)));
    // Their second set, brought into force over the shipped one: that is what it goes back to, not their first set.
    let anew = changed(&policy(&other), vec![shipped.also[0].clone(), first.also[1].clone()]);
    assert_eq!((policy_of(&anew).version, before(&anew)), (2, None));
}

fn exemption(id: &str, until: &str) -> Request {
    request(json!({
        "Operation": "ExemptionAdd", "Id": id, "Resource": "arn:aws:s3:::legacy", "Owner": "team web", "Reason": "moves in June",
        "ExpiresAt": until,
    }))
}

#[test]
fn an_exemption_has_a_scope_an_owner_a_reason_and_an_end() {
    let good = exemption("legacy", "2026-06-01T00:00:00Z");
    let change = changed(&good, vec![]);
    assert_eq!(change.resource, "redress:exemption/legacy");
    for until in ["2026-03-01T12:00:00Z", "2020-01-01T00:00:00Z", "2027-03-04T12:00:00Z"] {
        assert_eq!(code(&exemption("legacy", until), vec![]), (400, "bad-expiry"), "{until}");
    }
    for name in ["", "Legacy", "a b", "-a", &"a".repeat(65)] {
        assert_eq!(code(&exemption(name, "2026-06-01T00:00:00Z"), vec![]), (400, "bad-name"), "{name}");
    }
    let Request::ExemptionAdd { id, expires_at, .. } = good else { panic!() };
    let bare = Request::ExemptionAdd {
        id,
        expires_at,
        control: None,
        account: None,
        ou: None,
        resource: None,
        owner: "x".to_owned(),
        reason: "x".to_owned(),
    };
    assert_eq!(code(&bare, vec![]), (400, "no-scope"));
    let Request::ExemptionAdd { id, .. } = bare else { panic!() };
    let nobody = Request::ExemptionAdd {
        id,
        expires_at,
        control: Some("S3.8".parse().unwrap()),
        account: None,
        ou: None,
        resource: None,
        owner: " ".to_owned(),
        reason: "x".to_owned(),
    };
    assert_eq!(code(&nobody, vec![]), (400, "no-reason"));
}

#[test]
fn an_exemption_is_unique_and_one_that_ended_long_ago_is_dropped() {
    let Also::Put { item, .. } = &changed(&exemption("legacy", "2026-06-01T00:00:00Z"), vec![]).also[0] else {
        panic!()
    };
    let one: Exemptions = redress_common::aws::item::decode("x", item).unwrap();
    let there = |list: &Exemptions| vec![stored(StateKey::Exemptions, list)];
    assert_eq!(code(&exemption("legacy", "2026-06-01T00:00:00Z"), there(&one)), (409, "exists"));
    let mut old = one.clone();
    old.exemptions[0].expires_at = "2026-01-01T00:00:00Z".parse().unwrap();
    let Also::Put { item, .. } = &changed(&exemption("other", "2026-06-01T00:00:00Z"), there(&old)).also[0] else {
        panic!()
    };
    let after: Exemptions = redress_common::aws::item::decode("x", item).unwrap();
    assert_eq!((after.version, after.exemptions.len(), after.exemptions[0].id.as_str()), (2, 1, "other"));
    let mut full = one.clone();
    full.exemptions =
        (0..Exemptions::MAX).map(|n| Exemption { id: format!("e{n}"), ..one.exemptions[0].clone() }).collect();
    assert_eq!(code(&exemption("more", "2026-06-01T00:00:00Z"), there(&full)), (409, "full"));
    let remove = request(json!({ "Operation": "ExemptionRemove", "Id": "legacy", "Reason": "moved" }));
    assert_eq!(code(&remove, vec![]), (404, "no-such-exemption"));
    assert!(changed(&remove, there(&one)).before.contains("team web"), "the ledger keeps what it was");
}

#[test]
fn a_breaker_is_closed_when_it_is_open_and_its_failures_are_forgiven() {
    let close = |scope: &str| request(json!({ "Operation": "BreakerClose", "Scope": scope, "Reason": "mended" }));
    assert_eq!(code(&close("everything"), vec![]), (400, "bad-scope"));
    assert_eq!(code(&close("control:S3.8"), vec![]), (404, "not-open"));
    let open = Breaker { version: 2, opened_at: Some(5), reason: "60 % failed".to_owned(), ..Breaker::default() };
    let scope = BreakerScope::Control("S3.8".parse().unwrap());
    let change = changed(&close("control:S3.8"), vec![stored(StateKey::Breaker(scope), &open)]);
    let [Also::Put { item, .. }, Also::Delete { key }] = &change.also[..] else { panic!() };
    let after: Breaker = redress_common::aws::item::decode("x", item).unwrap();
    assert_eq!((after.version, after.opened_at, after.forgiven_until), (3, None, now().as_millisecond()));
    assert!(matches!(key, StateKey::Count(..)), "what was counted this hour would open it again: {key}");
    assert!(change.before.contains("60 % failed"));
}

#[test]
fn unreadable_settings_are_never_written_over() {
    let broken = Also::Put {
        key: StateKey::Settings,
        item: state_table::encode(&StateKey::Settings, &json!({ "Switch": "maybe" })).unwrap(),
        expect: Expect::Anything,
    };
    assert_eq!(code(&on(json!({})), vec![broken]), (409, "unreadable"));
}

#[test]
fn where_people_are_told_is_changed_whole_and_said_by_name() {
    let secret = "arn:aws:secretsmanager:us-east-1:999999999999:secret:redress/notify/soc-AbCdEf";
    let list = |kind: &str| json!([{ "Name": "soc", "Kind": kind, "Secret": secret }]);
    let set =
        |kind: &str| request(json!({ "Operation": "Destinations", "List": list(kind), "Reason": "the team moved" }));
    let change = changed(&set("slack"), vec![]);
    assert_eq!((change.code, change.before.as_str(), change.after.as_str()), ("destinations", "", "soc (slack)"));
    assert_eq!(change.answer["Destinations"]["Version"], 1);
    let stored = || {
        let Also::Put { item, .. } = &change.also[0] else { panic!("{change:?}") };
        vec![Also::Put { key: StateKey::Destinations, item: item.clone(), expect: Expect::Anything }]
    };
    assert!(matches!(ask(&set("slack"), stored()), Ok(Step::Same(_))));
    assert_eq!(changed(&set("teams"), stored()).before, "soc (slack)");
    assert_eq!(code(&set("pigeon"), vec![]), (400, "bad-destination"));
    let refused = ask(&set("pigeon"), vec![]).unwrap_err();
    assert!(refused.message.starts_with("entry 1 (soc), field Kind: "), "{}", refused.message);
    let silent = request(json!({ "Operation": "Destinations", "List": list("slack"), "Reason": " " }));
    assert_eq!(code(&silent, vec![]), (400, "no-reason"));
}

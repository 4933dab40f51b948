//! A sample finding goes the whole way as a dry run, and is nothing to a real finding of the same resource and moment.

use redress_common::ids::RemediationId;
use serde_json::{Value, json};

use super::*;

/// The same finding, as a sample.
fn sample() -> String {
    let mut event: Value = serde_json::from_str(IMPORT).unwrap();
    event["detail"]["findings"][0]["Sample"] = json!(true);
    event.to_string()
}

#[tokio::test]
async fn a_sample_is_dry_run_and_told_as_one_and_the_real_finding_of_that_moment_is_acted_on() {
    for sample_first in [true, false] {
        let world = World::new(&standard());
        let bodies = if sample_first { [sample(), IMPORT.to_owned()] } else { [IMPORT.to_owned(), sample()] };
        for (body, at) in bodies.iter().zip([0, 10]) {
            take(&world, body, later(at)).await.unwrap();
            take(&world, body, later(at + 1)).await.unwrap();
            let outcome = if *body == sample() { Outcome::NotFound } else { Outcome::Verified };
            complete(&world, &world.end(Some(outcome)), later(at + 5)).await;
        }
        let modes: Vec<Option<Mode>> = world.started().iter().map(|(_, start)| mode(start)).collect();
        let (dry, real) = if sample_first { (0, 1) } else { (1, 0) };
        assert_eq!((modes.len(), modes[dry], modes[real]), (2, Some(Mode::DryRun), Some(Mode::Apply)));
        let id: RemediationId = world.started()[dry].1.id;

        let told: Vec<_> =
            world.told().into_iter().filter(|message| message.remediation_id == id.to_string()).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].sample && told[0].finding.starts_with("[SAMPLE] "), "{}", told[0].finding);
        assert!(told[0].next_step.as_ref().unwrap().starts_with("The way works."));
        let (of_sample, of_real): (Vec<_>, Vec<_>) =
            world.records().into_iter().partition(|record| record.draft.remediation_id == id);
        let states: Vec<State> = of_sample.iter().map(|record| record.draft.execution_status).collect();
        assert_eq!(states, [State::Planned, State::Claimed, State::Notified]);
        assert!(of_sample.iter().all(|record| record.is_sample() && record.draft.error_message.is_empty()));
        assert_eq!(of_sample[2].detail(detail::OUTCOME), Some("NotFound"));
        assert!(of_real.iter().all(|record| !record.is_sample()));
        let claim = world.claim(&claim_key()).unwrap();
        assert_eq!((claim.state, claim.recent.len(), claim.undoable.is_some()), (State::Verified, 1, true));
        assert!(world.flight().running.is_empty() && world.dead().is_empty() && world.urgent().iter().all(|one| !one));
        world.verify();
    }
}

#[tokio::test]
async fn a_sample_for_which_there_is_no_playbook_and_one_that_cannot_be_started_are_told_and_not_kept() {
    let world = World::new(&standard());
    let mut unknown: Value = serde_json::from_str(&sample()).unwrap();
    unknown["detail"]["findings"][0]["Compliance"]["SecurityControlId"] = json!("Nobody.1");
    for _ in 0..2 {
        take(&world, &unknown.to_string(), now()).await.unwrap();
    }
    assert_eq!((world.told().len(), world.records().last().unwrap().is_sample()), (1, true));
    assert_eq!(world.told()[0].status, "Notified");

    world.fail_start(false);
    take(&world, &sample(), now()).await.unwrap();
    let last = world.told().pop().unwrap();
    assert_eq!((last.status.as_str(), last.sample), ("Failed", true));
    assert!(world.dead().is_empty() && world.flight().running.is_empty() && world.claim(&claim_key()).is_none());
    world.verify();
}

#[tokio::test]
async fn a_switch_holds_a_sample_too_and_what_is_told_of_it_silences_nothing_real() {
    let settings = Settings { switch: Switch::Off, ..standard() };
    let world = World::new(&settings);
    take(&world, &sample(), now()).await.unwrap();
    take(&world, IMPORT, later(1)).await.unwrap();
    let codes: Vec<_> =
        world.records().iter().filter_map(|record| record.detail(detail::CODE).map(str::to_owned)).collect();
    assert_eq!(codes, ["switched-off"; 4], "of the sample, and of the real one as if there had been no sample");
    assert_eq!((world.told().len(), world.started().len()), (2, 0));
}

//! The catalogue in the state table: what the orchestrator knows of each control.

use redress_common::aws::state_table::{self, CatalogueError, StateKey};
use redress_common::catalogue::Catalogue;
use redress_common::names;

use super::finding::{Check, CheckId, Fault, Finding, Place, Severity, Where};
use super::sight::{Blind, Site, absent};
use crate::controls;

static MISSING: Fault = Fault {
    code: "catalogue-missing",
    severity: Severity::Error,
    about: "there is no catalogue in table RedressState",
    why: "the orchestrator leaves every message in its queue and acts on none",
    todo: "write it from this release's ssm-documents/catalogue.json (docs/deploy.md#by-hand)",
};

static DAMAGED: Fault = Fault {
    code: "catalogue-damaged",
    severity: Severity::Error,
    about: "the catalogue cannot be trusted: its hash, or it itself, is wrong",
    why: "the orchestrator leaves every message in its queue and acts on none",
    todo: "write it again from this release's ssm-documents/catalogue.json; CloudTrail (data events of RedressState) says who changed it",
};

static OTHER: Fault = Fault {
    code: "catalogue-other",
    severity: Severity::Warning,
    about: "the catalogue is not this release's",
    why: "controls that it lacks are never acted on; what it has differently is done as an older, or newer, release would",
    todo: "write this release's ssm-documents/catalogue.json, or use the `redress` of the release that is deployed",
};

pub(super) static CHECK: Check = Check {
    id: CheckId::Catalogue,
    at: Where::Administrator,
    about: "the catalogue of controls: there, whole, and this release's",
    faults: &[&MISSING, &DAMAGED, &OTHER],
    rights: &["dynamodb:BatchGetItem"],
};

pub(super) async fn look(site: &Site) -> Result<Vec<Finding>, Blind> {
    let client = aws_sdk_dynamodb::Client::new(site.config());
    let own = controls::catalogue().map_err(|problem| Blind(problem.to_string()))?;
    let stored = match state_table::read(&client, names::STATE_TABLE, &[StateKey::Catalogue]).await {
        Ok(snapshot) => snapshot.catalogue(),
        // Without its table there is none; that is told of the table.
        Err(failure) => return absent::<()>(failure).map(|_| Vec::new()),
    };
    Ok(judge(&site.place, stored, &own))
}

fn judge(place: &Place, stored: Result<Catalogue, CatalogueError>, own: &Catalogue) -> Vec<Finding> {
    match stored {
        Ok(stored) if stored == *own => Vec::new(),
        Ok(stored) => {
            let lacks = own.0.keys().filter(|id| !stored.0.contains_key(*id)).count();
            let more = stored.0.keys().filter(|id| !own.0.contains_key(*id)).count();
            let differ =
                own.0.iter().filter(|(id, entry)| stored.0.get(*id).is_some_and(|other| other != *entry)).count();
            let what = format!(
                "the catalogue lacks {lacks} of this release's {} controls, has {more} of its own, and {differ} differ",
                own.0.len()
            );
            vec![place.finding(&OTHER, "", what)]
        }
        Err(CatalogueError::Absent) => vec![place.finding(&MISSING, "", "table RedressState has no catalogue")],
        Err(error) => vec![place.finding(&DAMAGED, "", format!("the catalogue cannot be used: {error}"))],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::tests::{administrator, codes};
    use super::*;

    #[test]
    fn the_catalogue_is_there_whole_and_this_releases() {
        let own = controls::catalogue().unwrap();
        let told = |stored| codes(&judge(&administrator(), stored, &own));
        assert!(told(Ok(own.clone())).is_empty());
        assert_eq!(told(Err(CatalogueError::Absent)), ["catalogue-missing"]);
        assert_eq!(told(Err(CatalogueError::Hash)), ["catalogue-damaged"]);
        let mut less = own.clone();
        less.0.pop_first();
        assert_eq!(told(Ok(less)), ["catalogue-other"]);
    }
}

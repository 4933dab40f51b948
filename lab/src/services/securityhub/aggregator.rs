//! The finding aggregator: one Region in which the administrator sees, updates and hears of the findings of others.
//!
//! A linked Region's finding is shown in the aggregation Region, not copied there: an update in either is one in both,
//! at once. Findings from before the link are shown, too, and go when it ends; AWS copies them with their next update,
//! and keeps them. Member accounts, which AWS links as their administrator, see each Region's alone.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Place, SecurityHub, State, invalid, not_administrator, not_found, partition};
use crate::service::{AwsError, Request};

/// Where a request's path names the aggregator.
const PATHS: [&str; 2] = ["/findingAggregator/get/", "/findingAggregator/delete/"];

/// Which Regions are linked.
enum Linked {
    All,
    AllBut(Vec<String>),
    These(Vec<String>),
}

impl Linked {
    /// Of a request's `RegionLinkingMode` and `Regions`.
    fn of(body: &Value, home: &str) -> Result<Self, AwsError> {
        let regions = body["Regions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let regions: Vec<String> = regions.map(str::to_owned).collect();
        if regions.iter().any(|region| region == home) {
            return Err(invalid(format!("Regions must not have the aggregation Region {home}")));
        }
        match (body["RegionLinkingMode"].as_str().unwrap_or_default(), regions.is_empty()) {
            ("ALL_REGIONS", true) => Ok(Self::All),
            ("ALL_REGIONS_EXCEPT_SPECIFIED", false) => Ok(Self::AllBut(regions)),
            ("SPECIFIED_REGIONS", false) => Ok(Self::These(regions)),
            ("NO_REGIONS", true) => Ok(Self::These(Vec::new())),
            ("ALL_REGIONS" | "NO_REGIONS", false) => Err(invalid("this RegionLinkingMode takes no Regions".to_owned())),
            ("ALL_REGIONS_EXCEPT_SPECIFIED" | "SPECIFIED_REGIONS", true) => {
                Err(invalid("this RegionLinkingMode takes Regions".to_owned()))
            }
            (mode, _) => Err(invalid(format!("RegionLinkingMode `{mode}` is not known"))),
        }
    }

    fn has(&self, region: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(regions) => regions.iter().all(|one| one != region),
            Self::These(regions) => regions.iter().any(|one| one == region),
        }
    }
}

/// The aggregator of the administrator account.
pub(super) struct Aggregator {
    arn: String,
    /// The aggregation Region.
    home: String,
    linked: Linked,
}

impl Aggregator {
    fn told(&self) -> Value {
        let (mode, regions) = match &self.linked {
            Linked::All => ("ALL_REGIONS", None),
            Linked::AllBut(regions) => ("ALL_REGIONS_EXCEPT_SPECIFIED", Some(regions)),
            Linked::These(regions) if regions.is_empty() => ("NO_REGIONS", None),
            Linked::These(regions) => ("SPECIFIED_REGIONS", Some(regions)),
        };
        let mut told = json!({
            "FindingAggregatorArn": self.arn, "FindingAggregationRegion": self.home, "RegionLinkingMode": mode,
        });
        if let Some(regions) = regions {
            told["Regions"] = json!(regions);
        }
        told
    }
}

impl State {
    /// Refuses whoever is not the administrator: the lab has no aggregators but theirs.
    fn aggregates(&self, request: &Request) -> Result<(), AwsError> {
        let account = &request.caller.account;
        self.hub(account, &request.region)?;
        if self.administrator.as_ref() == Some(account) { Ok(()) } else { Err(not_administrator(account)) }
    }

    /// The aggregator that a request names.
    fn aggregator_mut(&mut self, request: &Request, arn: &str) -> Result<&mut Aggregator, AwsError> {
        self.aggregates(request)?;
        let named = self.aggregator.as_mut().filter(|aggregator| aggregator.arn == arn);
        named.ok_or_else(|| not_found("FindingAggregator", arn))
    }

    /// The Region in which the administrator has the findings of this one besides; its hub must be on in both.
    fn aggregated_in(&self, region: &str) -> Option<&str> {
        let (administrator, aggregator) = (self.administrator.as_ref()?, self.aggregator.as_ref()?);
        let is_on = self.hubs.contains_key(&(administrator.clone(), region.to_owned()));
        (is_on && region != aggregator.home && aggregator.linked.has(region)).then_some(aggregator.home.as_str())
    }

    /// Whether somebody who asks in `region` is shown the findings of `place`.
    pub(super) fn shows(&self, viewer: &str, region: &str, place: &str) -> bool {
        let is_administrator = self.administrator.as_deref() == Some(viewer);
        place == region || (is_administrator && self.aggregated_in(place) == Some(region))
    }

    /// Who hears of an account's findings in a Region, and where: the account, its administrator, and the latter in the
    /// aggregation Region once more.
    pub(super) fn listeners(&self, account: &str, region: &str) -> Vec<Place> {
        let who = [Some(account.to_owned()), self.administrator_of(account, region)];
        let mut listeners: Vec<Place> = who.into_iter().flatten().map(|who| (who, region.to_owned())).collect();
        let administrator = listeners.iter().map(|(who, _)| who).find(|who| self.administrator.as_ref() == Some(*who));
        if let (Some(administrator), Some(home)) = (administrator.cloned(), self.aggregated_in(region)) {
            listeners.push((administrator, home.to_owned()));
        }
        listeners
    }
}

impl SecurityHub {
    pub(super) fn create_finding_aggregator(&self, request: &Request) -> Result<Value, AwsError> {
        let mut state = self.state();
        state.aggregates(request)?;
        if state.aggregator.is_some() {
            return Err(AwsError {
                status: 429,
                ..AwsError::new("LimitExceededException", "there is a finding aggregator already")
            });
        }
        let (account, home) = (&request.caller.account, &request.region);
        let id = Uuid::new_v4();
        let arn = format!("arn:{}:securityhub:{home}:{account}:finding-aggregator/{id}", partition(home));
        let aggregator = Aggregator { arn, home: home.clone(), linked: Linked::of(&request.body, home)? };
        Ok(state.aggregator.insert(aggregator).told())
    }

    pub(super) fn get_finding_aggregator(&self, request: &Request) -> Result<Value, AwsError> {
        Ok(self.state().aggregator_mut(request, named(request))?.told())
    }

    pub(super) fn list_finding_aggregators(&self, request: &Request) -> Result<Value, AwsError> {
        let state = self.state();
        state.aggregates(request)?;
        let arns = state.aggregator.iter().map(|aggregator| json!({ "FindingAggregatorArn": aggregator.arn }));
        Ok(json!({ "FindingAggregators": arns.collect::<Vec<_>>() }))
    }

    pub(super) fn update_finding_aggregator(&self, request: &Request) -> Result<Value, AwsError> {
        let mut state = self.state();
        let aggregator = state.aggregator_mut(request, named(request))?;
        at_home(aggregator, request)?;
        aggregator.linked = Linked::of(&request.body, &aggregator.home)?;
        Ok(aggregator.told())
    }

    pub(super) fn delete_finding_aggregator(&self, request: &Request) -> Result<Value, AwsError> {
        let mut state = self.state();
        at_home(state.aggregator_mut(request, named(request))?, request)?;
        state.aggregator = None;
        Ok(json!({}))
    }
}

/// The aggregator's ARN, in a request's path or body.
pub(super) fn named(request: &Request) -> &str {
    let path = PATHS.iter().find_map(|path| request.path.strip_prefix(*path));
    path.or_else(|| request.body["FindingAggregatorArn"].as_str()).unwrap_or_default()
}

/// An aggregator is changed in its own Region alone.
fn at_home(aggregator: &Aggregator, request: &Request) -> Result<(), AwsError> {
    if aggregator.home == request.region {
        return Ok(());
    }
    Err(invalid(format!("the finding aggregator is changed in {}, not in {}", aggregator.home, request.region)))
}

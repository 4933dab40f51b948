//! Every execution: which run, which wait for a place, and which client token stands for which.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::execution::{Execution, Status};
use super::run::{self, Control, Run};
use super::{Options, Place, locked};
use crate::service::AwsError;

/// Who asks whether an account is busy asks about now.
const NEWEST: usize = 100;

/// A client token's key and what it was first used for.
pub(crate) struct Token {
    pub(crate) key: (Place, String),
    pub(crate) fingerprint: String,
}

#[derive(Default)]
struct Lane {
    in_flight: usize,
    queue: VecDeque<Arc<Run>>,
}

#[derive(Default)]
struct State {
    runs: HashMap<String, Arc<Run>>,
    order: Vec<String>,
    tokens: HashMap<(Place, String), (String, String)>,
    lanes: HashMap<Place, Lane>,
}

impl State {
    /// The execution that a token already stands for.
    fn known(&self, token: &Token) -> Result<Option<String>, AwsError> {
        match self.tokens.get(&token.key) {
            Some((fingerprint, id)) if *fingerprint == token.fingerprint => Ok(Some(id.clone())),
            Some(_) => Err(AwsError::new(
                "IdempotentParameterMismatch",
                "The request has the client token of an earlier request, but other parameters.",
            )),
            None => Ok(None),
        }
    }
}

/// All executions of the lab.
pub(crate) struct Engine {
    pub(crate) options: Options,
    state: Mutex<State>,
}

impl Engine {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    pub(crate) fn known(&self, token: &Token) -> Result<Option<String>, AwsError> {
        locked(&self.state).known(token)
    }

    /// Take an execution in and start it, or queue it when its account and Region are full. One with a parent is never
    /// queued, since its parent holds a place until it ends. Answers the id: an earlier one's when the token says so.
    pub(crate) fn admit(self: &Arc<Self>, run: Arc<Run>, token: Option<Token>) -> Result<String, AwsError> {
        let (id, place, is_child) = run.read(|record| (record.id.clone(), record.place(), record.parent.is_some()));
        {
            let mut state = locked(&self.state);
            if let Some(earlier) = token.as_ref().map(|token| state.known(token)).transpose()?.flatten() {
                return Ok(earlier);
            }
            let lane = state.lanes.entry(place.clone()).or_default();
            let starts = is_child || lane.in_flight < self.options.max_in_flight;
            if !starts && lane.queue.len() >= self.options.max_queued {
                return Err(AwsError::new(
                    "AutomationExecutionLimitExceededException",
                    "The number of simultaneously running Automation executions exceeded the allowable limit.",
                ));
            }
            if starts {
                lane.in_flight += 1;
            } else {
                lane.queue.push_back(Arc::clone(&run));
            }
            state.runs.insert(id.clone(), Arc::clone(&run));
            state.order.push(id.clone());
            if let Some(token) = token {
                state.tokens.insert(token.key, (token.fingerprint, id.clone()));
            }
            if !starts {
                return Ok(id);
            }
        }
        self.launch(run, place);
        Ok(id)
    }

    fn launch(self: &Arc<Self>, run: Arc<Run>, place: Place) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let mut next = Some(run);
            while let Some(run) = next.take() {
                run::interpret(&engine, &run).await;
                next = engine.give_place(&place);
            }
        });
    }

    /// An execution ended: its place goes to the next in the queue.
    fn give_place(&self, place: &Place) -> Option<Arc<Run>> {
        let mut state = locked(&self.state);
        let lane = state.lanes.entry(place.clone()).or_default();
        if lane.in_flight <= self.options.max_in_flight
            && let Some(next) = lane.queue.pop_front()
        {
            return Some(next);
        }
        lane.in_flight -= 1;
        None
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Run>> {
        locked(&self.state).runs.get(id).cloned()
    }

    /// Every execution, in the order of their starts.
    pub(crate) fn all(&self) -> Vec<Execution> {
        let runs: Vec<Arc<Run>> = {
            let state = locked(&self.state);
            state.order.iter().filter_map(|id| state.runs.get(id).cloned()).collect()
        };
        runs.iter().map(|run| run.read(Execution::clone)).collect()
    }

    /// Whether one of the newest executions runs in an account.
    pub(crate) fn is_busy(&self, account: &str) -> bool {
        let newest: Vec<Arc<Run>> = {
            let state = locked(&self.state);
            state.order.iter().rev().take(NEWEST).filter_map(|id| state.runs.get(id).cloned()).collect()
        };
        newest.iter().any(|run| run.read(|execution| execution.account == account && execution.ended.is_none()))
    }

    /// Ask an execution to stop. One that still waits for a place ends here.
    pub(crate) async fn stop(&self, id: &str, how: Control) -> Result<(), AwsError> {
        let run = self.find(id).ok_or_else(|| not_found(id))?;
        let (place, status) = run.read(|record| (record.place(), record.status));
        if status.is_final() {
            return Err(AwsError::new(
                "InvalidAutomationStatusUpdateException",
                format!("The automation execution {id} has ended with status {}.", status.as_str()),
            ));
        }
        let queued = {
            let mut state = locked(&self.state);
            let queue = &mut state.lanes.entry(place).or_default().queue;
            let length = queue.len();
            queue.retain(|waiting| !Arc::ptr_eq(waiting, &run));
            queue.len() < length
        };
        if queued {
            run.end(self, Status::Cancelled, None).await;
        } else {
            run.control(how).await;
        }
        Ok(())
    }
}

pub(crate) fn not_found(id: &str) -> AwsError {
    AwsError::new("AutomationExecutionNotFoundException", format!("There is no automation execution with the id {id}."))
}

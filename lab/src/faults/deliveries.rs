//! Messages and events that come twice or out of order, as SQS and EventBridge may deliver them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// How queues and targets are delivered to out of the ordinary. They are named without their ARN: `redress-findings`.
#[derive(Debug, Default)]
pub struct Deliveries {
    queues: Mutex<HashMap<String, Disorder>>,
    targets: Mutex<HashMap<String, usize>>,
}

#[derive(Debug)]
enum Disorder {
    /// So many more, all at the same time.
    Together(usize),
    /// So many more, each when the one before was dealt with.
    Again(usize),
    /// The next so many messages wait for each other.
    Reversed { wanted: usize, held: Vec<Value> },
}

/// Messages for one invocation.
pub(crate) type Batch = Vec<Value>;

impl Deliveries {
    /// Every batch of a queue is handed over `copies` times more, all at the same time: the handlers race.
    pub fn duplicate(&self, queue: &str, copies: usize) {
        self.queues().insert(queue.to_owned(), Disorder::Together(copies));
    }

    /// Every batch of a queue comes again `copies` times, each time when the one before was dealt with, even if it succeeded.
    pub fn repeat(&self, queue: &str, copies: usize) {
        self.queues().insert(queue.to_owned(), Disorder::Again(copies));
    }

    /// The next `messages` of a queue wait for each other, then come one by one, the last one first. They do not wait
    /// longer than the queue's visibility timeout: then they count as new, as on AWS.
    pub fn reverse(&self, queue: &str, messages: usize) {
        self.queues().insert(queue.to_owned(), Disorder::Reversed { wanted: messages, held: Vec::new() });
    }

    /// Every event that a rule sends to this target (a queue, a function, a bus) is sent `copies` times more.
    pub fn duplicate_events(&self, target: &str, copies: usize) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), copies);
    }

    /// From now on everything comes once and as it is received. Messages that still wait for others come again after
    /// their visibility timeout.
    pub fn clear(&self) {
        self.queues().clear();
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How received messages are handed over: one list after the other, the batches of each list at the same time.
    pub(crate) fn arrange(&self, queue: &str, messages: Batch) -> Vec<Vec<Batch>> {
        let mut queues = self.queues();
        match queues.get_mut(queue) {
            None => vec![vec![messages]],
            Some(Disorder::Together(copies)) => vec![vec![messages; *copies + 1]],
            Some(Disorder::Again(copies)) => vec![vec![messages]; *copies + 1],
            Some(Disorder::Reversed { wanted, held }) => {
                // One that waited too long is received again; its new receipt is the valid one.
                held.retain(|old| messages.iter().all(|new| new["MessageId"] != old["MessageId"]));
                held.extend(messages);
                if held.len() < *wanted {
                    return Vec::new();
                }
                let reversed = std::mem::take(held).into_iter().rev().map(|message| vec![vec![message]]).collect();
                queues.remove(queue);
                reversed
            }
        }
    }

    /// How often more an event is sent to a target.
    pub(crate) fn copies(&self, target_arn: &str) -> usize {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = target_arn.rsplit([':', '/']).next().unwrap_or(target_arn);
        targets.get(name).copied().unwrap_or(0)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Disorder>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str) -> Value {
        json!({ "MessageId": id })
    }

    #[test]
    fn copies_come_together_or_one_after_the_other() {
        let (deliveries, batch) = (Deliveries::default(), vec![message("a")]);
        assert_eq!(deliveries.arrange("q", batch.clone()), [[batch.clone()]]);
        deliveries.duplicate("q", 1);
        assert_eq!(deliveries.arrange("q", batch.clone()), [[batch.clone(), batch.clone()]]);
        deliveries.repeat("q", 1);
        assert_eq!(deliveries.arrange("q", batch.clone()), [[batch.clone()], [batch.clone()]]);
        assert_eq!(deliveries.arrange("other", batch.clone()), [[batch]]);
    }

    #[test]
    fn reversed_messages_wait_for_each_other_and_only_once() {
        let deliveries = Deliveries::default();
        deliveries.reverse("q", 3);
        assert!(deliveries.arrange("q", vec![message("a"), message("b")]).is_empty());
        assert!(deliveries.arrange("q", vec![message("a")]).is_empty(), "the same message again");
        let all = deliveries.arrange("q", vec![message("c")]);
        assert_eq!(all, [[[message("c")]], [[message("a")]], [[message("b")]]]);
        assert_eq!(deliveries.arrange("q", vec![message("d")]), [[[message("d")]]]);
    }

    #[test]
    fn a_target_is_known_by_the_last_part_of_its_arn() {
        let deliveries = Deliveries::default();
        deliveries.duplicate_events("redress-hub", 2);
        assert_eq!(deliveries.copies("arn:aws:events:eu-central-1:111122223333:event-bus/redress-hub"), 2);
        assert_eq!(deliveries.copies("arn:aws:sqs:eu-central-1:111122223333:redress-findings"), 0);
    }
}

//! The threat list of the organisation, from its bucket in the administrator account, kept for five minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use redress_common::aws::failure::AwsFailure;
use tokio::sync::Mutex;

use super::threat::List;

/// The list's names, in order of preference.
const NAMES: [&str; 2] = ["list.json", "list.txt"];
/// What they start with, and what is looked for.
const PREFIX: &str = "list.";
/// No longer list is read.
const MAX_BYTES: i64 = 2 * 1024 * 1024;
/// So long a list is taken for current.
const FRESH: Duration = Duration::from_secs(300);

/// Where the list is.
#[derive(Debug, Clone)]
pub(super) struct ThreatList {
    client: Client,
    bucket: String,
    owner: String,
    kept: Arc<Mutex<Option<Kept>>>,
    fresh: Duration,
}

#[derive(Debug)]
struct Kept {
    /// `None` for no list.
    etag: Option<String>,
    list: Arc<List>,
    since: Instant,
}

impl ThreatList {
    /// Of this bucket, which must belong to `owner`.
    pub(super) fn new(client: Client, bucket: String, owner: String) -> Self {
        Self { client, bucket, owner, kept: Arc::default(), fresh: FRESH }
    }

    /// The list as it is now; one that nobody ever put there is empty. Of two that ask at the same time, one fetches.
    pub(super) async fn current(&self) -> Result<Arc<List>, AwsFailure> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.since.elapsed() < self.fresh) {
            return Ok(kept.list.clone());
        }
        let known = kept.take();
        let (etag, list) = match (self.listed().await?, known) {
            (None, _) => (None, Arc::default()),
            (Some((_, etag)), Some(known)) if Some(&etag) == known.etag.as_ref() => (known.etag, known.list),
            (Some((name, etag)), _) => {
                let list = Arc::new(self.read(name, &etag).await?);
                (Some(etag), list)
            }
        };
        *kept = Some(Kept { etag, list: list.clone(), since: Instant::now() });
        Ok(list)
    }

    /// Name and ETag of the list. Listing tells "none" from "not allowed", which reading does not, and the size before it is read.
    async fn listed(&self) -> Result<Option<(&'static str, String)>, AwsFailure> {
        const OPERATION: &str = "ListObjectsV2";
        let asked = self.client.list_objects_v2().bucket(&self.bucket).expected_bucket_owner(&self.owner);
        let answer = match asked.prefix(PREFIX).max_keys(10).send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchBucket") => return Ok(None),
            Err(error) => return Err(AwsFailure::of(OPERATION, &error)),
        };
        let of_name = |name: &'static str| {
            answer.contents().iter().find(|object| object.key() == Some(name)).map(|object| (name, object))
        };
        let Some((name, object)) = NAMES.into_iter().find_map(of_name) else { return Ok(None) };
        if object.size().is_none_or(|size| size > MAX_BYTES) {
            return Err(AwsFailure::partial(
                OPERATION,
                format!("`{name}` is longer than {MAX_BYTES} bytes; it is not used"),
            ));
        }
        Ok(Some((name, object.e_tag().unwrap_or_default().to_owned())))
    }

    /// Reads what was listed, and not what it may have become since.
    async fn read(&self, name: &str, etag: &str) -> Result<List, AwsFailure> {
        const OPERATION: &str = "GetObject";
        let asked = self.client.get_object().bucket(&self.bucket).expected_bucket_owner(&self.owner).key(name);
        let answer = asked.if_match(etag).send().await.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let body = answer.body.collect().await.map_err(|_| AwsFailure::partial(OPERATION, "the list was cut off"))?;
        Ok(List::parse(&String::from_utf8_lossy(&body.into_bytes())))
    }
}

#[cfg(test)]
#[path = "threat_list_tests.rs"]
mod tests;

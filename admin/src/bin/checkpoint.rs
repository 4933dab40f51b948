//! Lambda `redress-checkpoint`: invoked by a schedule. Only wires; see [`redress_admin::checkpoint`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::aws::checkpoint;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let checkpoints = &checkpoint::from_environment()?;
    lambda_runtime::run(service_fn(move |_: LambdaEvent<serde_json::Value>| {
        Box::pin(async move { Ok::<_, Error>(checkpoints.run(jiff::Timestamp::now()).await.map(drop)?) })
    }))
    .await
}

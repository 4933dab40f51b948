//! Lambda `redress-api`: behind a function URL. Only wires; see [`redress_admin::api`].

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use redress_admin::api::Api;
use redress_admin::api::duty::Answering;
use redress_admin::aws::Aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let (outside, me) = Aws::from_environment()?;
    let answering = Answering::of(std::env::var("OPERATORS_APPROVE").ok().as_deref());
    let api = &Api::new(outside, me).answered_by(answering);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<serde_json::Value>| async move {
        Ok::<_, Error>(api.answer(event.payload, jiff::Timestamp::now()).await)
    }))
    .await
}

//! The operators' door, as the `redress` command uses it: a signed POST to the URL of `redress-api`.

use redress_common::names;
use redress_lab::service::Credentials;
use serde_json::{Value, json};

use crate::world::World;

#[expect(clippy::panic, reason = "without these there is no test")]
impl World {
    /// The api's URL, as an operator finds it.
    ///
    /// # Panics
    /// When the operator does not find it.
    pub async fn api_url(&self, by: &Credentials) -> String {
        let asked = json!({ "FunctionName": names::API_FUNCTION });
        match self.bed.lab.aws().call(by, self.region(), "lambda", "GetFunctionUrlConfig", asked).await {
            Ok(answer) => answer["FunctionUrl"].as_str().unwrap_or_default().to_owned(),
            Err(error) => panic!("the api's URL: {error}"),
        }
    }

    /// Asks the api as an operator: HTTP status and answer.
    pub async fn asks(&self, request: &Value) -> (u16, Value) {
        let operator = self.operator().await;
        let url = self.api_url(&operator).await;
        self.asks_as(&operator, &url, request).await
    }

    /// The same, as somebody.
    ///
    /// # Panics
    /// When the lab does not answer.
    pub async fn asks_as(&self, by: &Credentials, url: &str, request: &Value) -> (u16, Value) {
        match self.bed.lab.fetch(Some((by, "lambda", self.region())), "POST", url, Some(request)).await {
            Ok(answer) => (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body))),
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Asks the api for something that it must grant.
    ///
    /// # Panics
    /// When it does not.
    pub async fn operate(&self, request: Value) -> Value {
        let (status, answer) = self.asks(&request).await;
        assert_eq!(status, 200, "{request} was refused: {answer}");
        answer
    }
}

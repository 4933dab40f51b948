//! A Lambda function for the lab's own tests, by hand over the runtime API. It does what its event says.

use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = format!("http://{}/2018-06-01/runtime", std::env::var("AWS_LAMBDA_RUNTIME_API")?);
    let http = reqwest::Client::builder().no_proxy().build()?;
    loop {
        let next = http.get(format!("{api}/invocation/next")).send().await?;
        let id = next.headers()["lambda-runtime-aws-request-id"].to_str()?.to_owned();
        let event: Value = next.json().await?;
        println!("{}", json!({ "got": event }));
        let (kind, answer) = match answer(&event).await {
            Ok(answer) => ("response", answer),
            Err(message) => ("error", json!({ "errorType": "Asked", "errorMessage": message })),
        };
        http.post(format!("{api}/invocation/{id}/{kind}")).json(&answer).send().await?;
    }
}

async fn answer(event: &Value) -> Result<Value, String> {
    // Behind a URL the body says what to do.
    let body = event["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
    if let Some(wanted) = body.as_ref().and_then(|body| body.get("answer")) {
        return match wanted["fail"].as_str() {
            Some(message) => Err(message.to_owned()),
            None => Ok(wanted.clone()),
        };
    }
    if let Some(message) = event["fail"].as_str() {
        return Err(message.to_owned());
    }
    if let Some(code) = event["exit"].as_i64() {
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    if let Some(millis) = event["sleep"].as_u64() {
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    }
    if let Some(name) = event["env"].as_str() {
        return Ok(json!(std::env::var(name).ok()));
    }
    if let Some(records) = event["Records"].as_array() {
        let bad = records.iter().filter(|record| record["body"] == "bad");
        let failures: Vec<Value> = bad.map(|record| json!({ "itemIdentifier": record["messageId"] })).collect();
        return Ok(json!({ "batchItemFailures": failures }));
    }
    Ok(event.clone())
}

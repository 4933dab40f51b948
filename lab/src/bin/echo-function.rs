//! A Lambda function for the lab's own tests, by hand over the runtime API. It does what its event says.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
    if let Some(calls) = event["calls"].as_array() {
        return Ok(json!({ "pid": std::process::id(), "calls": call_all(calls).await? }));
    }
    if let Some(records) = event["Records"].as_array() {
        for record in records {
            let body = record["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
            if let Some(calls) = body.as_ref().and_then(|body| body["calls"].as_array()) {
                call_all(calls).await?;
            }
        }
        let bad = records.iter().filter(|record| record["body"] == "bad");
        let failures: Vec<Value> = bad.map(|record| json!({ "itemIdentifier": record["messageId"] })).collect();
        return Ok(json!({ "batchItemFailures": failures }));
    }
    Ok(event.clone())
}

/// One AWS call after the other; of each, how every attempt ended. After `AssumeRole` the others are made in that role.
async fn call_all(calls: &[Value]) -> Result<Vec<Vec<Value>>, String> {
    let (mut all, mut role) = (Vec::new(), None);
    for asked in calls {
        let ends = call(asked, role.as_ref()).await?;
        role = ends.iter().find_map(|end| credentials(end["body"].as_str()?)).or(role);
        all.push(ends);
    }
    Ok(all)
}

/// Key, secret and token of an answer to `AssumeRole`.
fn credentials(xml: &str) -> Option<[String; 3]> {
    let field = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split('<').next()?.to_owned())
    };
    Some([field("AccessKeyId")?, field("SecretAccessKey")?, field("SessionToken")?])
}

/// A signed POST of a `body` (JSON for a `target`) or a `form`, tried again up to `attempts` times as an SDK does.
async fn call(asked: &Value, role: Option<&[String; 3]>) -> Result<Vec<Value>, String> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let (body, content_type) = match asked["form"].as_str() {
        Some(form) => (form.to_owned(), "application/x-www-form-urlencoded"),
        None => (asked["body"].to_string(), "application/x-amz-json-1.0"),
    };
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let [key, secret, token] = match role {
        Some(role) => role.clone(),
        None => [variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?, variable("AWS_SESSION_TOKEN")?],
    };
    let (endpoint, region, service) = (variable("AWS_ENDPOINT_URL")?, variable("AWS_REGION")?, text("service"));
    let host = endpoint.trim_start_matches("http://");
    let http = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    let invocation = uuid::Uuid::new_v4().to_string();
    let attempts = asked["attempts"].as_u64().unwrap_or(1);
    let mut ends = Vec::new();
    for attempt in 1..=attempts {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{region}/{service}/aws4_request", &time[..8]);
        let canonical = format!(
            "POST\n/\n\nhost:{host}\nx-amz-date:{time}\nx-amz-security-token:{token}\n\nhost;x-amz-date;x-amz-security-token\n{}",
            hex::encode(Sha256::digest(&body))
        );
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let signing_key =
            scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex::encode(hmac(&signing_key, to_sign.as_bytes()));
        let mut request = http
            .post(format!("{endpoint}/"))
            .header("content-type", content_type)
            .header("x-amz-date", &time)
            .header("x-amz-security-token", &token)
            .header("amz-sdk-invocation-id", &invocation)
            .header("amz-sdk-request", format!("attempt={attempt}; max={attempts}"))
            .header("authorization", format!(
                "AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={signature}"
            ));
        if asked["target"].is_string() {
            request = request.header("x-amz-target", text("target"));
        }
        match request.body(body.clone()).send().await {
            Ok(answer) => {
                let status = answer.status();
                ends.push(json!({ "status": status.as_u16(), "body": answer.text().await.unwrap_or_default() }));
                if status.is_success() {
                    break;
                }
            }
            Err(error) => ends.push(json!({ "cut": error.to_string() })),
        }
    }
    Ok(ends)
}

/// HMAC-SHA256, for keys of up to one block: those of a signature are shorter.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new_with_prefix(padded(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

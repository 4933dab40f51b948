//! Table `RedressBacklog`: findings that wait, each under what it waits for, in the order of their turns.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use redress_common::aws::failure::AwsFailure;
use redress_common::aws::item;

use crate::ports::Waiting;

/// The table.
#[derive(Debug)]
pub(super) struct Backlog {
    client: Client,
    table: String,
}

impl Backlog {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    pub(super) async fn put(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        const OPERATION: &str = "dynamodb:PutItem";
        let item = item::encode("a waiting finding", waiting)
            .map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))?;
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(drop).map_err(|error| AwsFailure::of(OPERATION, &error))
    }

    pub(super) async fn first(&self, place: &str, after: &str, limit: usize) -> Result<Vec<Waiting>, AwsFailure> {
        const OPERATION: &str = "dynamodb:Query";
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .expression_attribute_names("#place", "Place")
            .expression_attribute_values(":place", AttributeValue::S(place.to_owned()))
            .consistent_read(true)
            .set_limit(i32::try_from(limit).ok());
        // DynamoDB compares with no empty key.
        let query = if after.is_empty() {
            query.key_condition_expression("#place = :place")
        } else {
            query
                .key_condition_expression("#place = :place AND #order > :after")
                .expression_attribute_names("#order", "Order")
                .expression_attribute_values(":after", AttributeValue::S(after.to_owned()))
        };
        let answer = query.send().await.map_err(|error| AwsFailure::of(OPERATION, &error))?;
        let items = answer.items.unwrap_or_default();
        let read = items.iter().map(|item| item::decode("a waiting finding", item));
        read.collect::<Result<_, _>>().map_err(|error| AwsFailure::partial(OPERATION, error.to_string()))
    }

    pub(super) async fn forget(&self, waiting: &Waiting) -> Result<(), AwsFailure> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("Place", text(&waiting.place))
            .key("Order", text(&waiting.order))
            .send()
            .await;
        deleted.map(drop).map_err(|error| AwsFailure::of("dynamodb:DeleteItem", &error))
    }
}

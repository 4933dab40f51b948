//! The guard's AWS clients: made when a question first needs one, and kept for as long as the process lives.
//!
//! Decides nothing, calls nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_types::SdkConfig;
use aws_types::region::Region as SdkRegion;
use redress_common::aws::evidence::s3_client;
use redress_common::ids::Region;

use crate::wire::Wire;

/// The clients of every Region that was asked about.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<Region, Arc<Here>>>);

impl Clients {
    /// Those of a Region.
    pub(super) fn of(&self, config: &SdkConfig, region: &Region) -> Arc<Here> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(region.clone()).or_insert_with(|| Arc::new(Here::new(config, region))))
    }
}

/// The clients of one Region.
#[derive(Debug)]
pub(super) struct Here {
    config: SdkConfig,
    region: Region,
    cloudformation: OnceLock<aws_sdk_cloudformation::Client>,
    ec2: OnceLock<aws_sdk_ec2::Client>,
    iam: OnceLock<aws_sdk_iam::Client>,
    kms: OnceLock<aws_sdk_kms::Client>,
    s3: OnceLock<aws_sdk_s3::Client>,
    tagging: OnceLock<aws_sdk_resourcegroupstagging::Client>,
}

impl Here {
    fn new(config: &SdkConfig, region: &Region) -> Self {
        Self {
            config: config.to_builder().region(SdkRegion::new(region.to_string())).build(),
            region: region.clone(),
            cloudformation: OnceLock::new(),
            ec2: OnceLock::new(),
            iam: OnceLock::new(),
            kms: OnceLock::new(),
            s3: OnceLock::new(),
            tagging: OnceLock::new(),
        }
    }

    pub(super) fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        self.cloudformation.get_or_init(|| aws_sdk_cloudformation::Client::new(&self.config)).clone()
    }

    pub(super) fn ec2(&self) -> aws_sdk_ec2::Client {
        self.ec2.get_or_init(|| aws_sdk_ec2::Client::new(&self.config)).clone()
    }

    pub(super) fn iam(&self) -> aws_sdk_iam::Client {
        self.iam.get_or_init(|| aws_sdk_iam::Client::new(&self.config)).clone()
    }

    pub(super) fn kms(&self) -> aws_sdk_kms::Client {
        self.kms.get_or_init(|| aws_sdk_kms::Client::new(&self.config)).clone()
    }

    pub(super) fn s3(&self) -> aws_sdk_s3::Client {
        self.s3.get_or_init(|| s3_client(&self.config, &self.region)).clone()
    }

    /// For what has no SDK crate here.
    pub(super) fn wire(&self) -> Wire {
        Wire::new(self.config.clone())
    }

    pub(super) fn tagging(&self) -> aws_sdk_resourcegroupstagging::Client {
        self.tagging.get_or_init(|| aws_sdk_resourcegroupstagging::Client::new(&self.config)).clone()
    }
}

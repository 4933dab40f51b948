//! `redress deploy`: rolling Redress out, and looking after what is rolled out.
//!
//! What shall be there is worked out by pure functions of settings and release ([`blueprint`]); what is there is asked of
//! AWS ([`rollout`]); the rest is the difference.

mod accounts;
mod apply;
mod artifacts;
mod automation_rules;
mod blueprint;
mod cost;
mod destroy;
pub(crate) mod doctor;
mod documents;
mod gate;
mod hub;
mod init;
mod kept;
mod plan;
mod release;
mod remains;
mod rollout;
mod sets;
pub(crate) mod settings;
mod stacks;
mod status;

use std::path::{Path, PathBuf};

use crate::args::{Deploy, DeployPlace, Global};
use crate::output::{Answer, Output};
use crate::problem::Problem;
use rollout::Rollout;
use settings::Settings;

pub(crate) async fn run(command: Deploy, global: &Global, output: Output) -> Result<Answer, Problem> {
    let style = output.style();
    match command {
        Deploy::Init(given) => {
            let file = file(&given.place);
            init::run(*given, &file, output)
        }
        Deploy::Plan(place) => plan::run(&rollout(&place, global).await?, style).await,
        Deploy::Apply(place) => apply::run(&rollout(&place, global).await?, output).await,
        Deploy::Status(place) => status::run(&rollout(&place, global).await?, style).await,
        Deploy::Upgrade { release, place } => upgrade(&release, &file(&place), global, output).await,
        Deploy::Doctor(given) => doctor::run(&given, global, output).await,
        Deploy::Destroy(given) => destroy::run(&rollout(&given.place, global).await?, &given, output).await,
    }
}

fn file(place: &DeployPlace) -> PathBuf {
    place.settings.clone().unwrap_or_else(|| PathBuf::from(settings::FILE))
}

async fn rollout(place: &DeployPlace, global: &Global) -> Result<Rollout, Problem> {
    Rollout::new(Settings::read(&file(place))?, global).await
}

/// The same as applying another release; the settings name it when it is everywhere.
async fn upgrade(release: &Path, file: &Path, global: &Global, output: Output) -> Result<Answer, Problem> {
    let release = std::path::absolute(release).map_err(|error| Problem::aws("find the release", &error))?;
    let settings = Settings { release: release.clone(), ..Settings::read(file)? };
    let answer = apply::run(&Rollout::new(settings, global).await?, output).await?;
    let text = std::fs::read_to_string(file).map_err(|error| Problem::aws("read the settings again", &error))?;
    init::save(file, &settings::with_release(&text, &release))?;
    Ok(answer)
}

//! A bed whose plan is not the shipped one.

use redress_lab::bed::Bed;
use redress_lab::organisation::Plan;
use redress_lab::template::Template;

use crate::world::{World, options};

impl World {
    /// An organisation of these members, in which a parameter of the administrator's stack has another default.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[expect(clippy::panic, reason = "without a lab there is no test")]
    pub fn with_defaults(members: &[&str], defaults: &[(&str, &str)]) -> Self {
        let options = options(members);
        let (runtime, plan) = match (
            tokio::runtime::Builder::new_multi_thread().enable_all().build(),
            Plan::of(&options.root, members, options.progress.clone()),
        ) {
            (Ok(runtime), Ok(plan)) => (runtime, plan),
            (runtime, plan) => panic!("no runtime ({:?}) or no plan ({:?})", runtime.err(), plan.err()),
        };
        let mut plan = plan;
        let mut text = plan.administrator_stack.text.clone();
        for (parameter, value) in defaults {
            text = with_default(&text, parameter, value);
        }
        match Template::parse(&text) {
            Ok(template) => (plan.administrator_stack.text, plan.administrator_stack.template) = (text, template),
            Err(error) => panic!("the changed template: {error}"),
        }
        match runtime.block_on(Bed::start_planned(options, plan)) {
            Ok(bed) => Self::of(runtime, bed),
            Err(error) => panic!("the lab did not start: {error}"),
        }
    }
}

/// The template with another default of a parameter.
fn with_default(text: &str, parameter: &str, value: &str) -> String {
    let mut within = false;
    let lines = text.lines().map(|line| {
        if line.starts_with("  ") && !line.starts_with("   ") {
            within = line == format!("  {parameter}:");
        }
        if within && line.starts_with("    Default:") { format!("    Default: {value}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

//! `docs/catalogue.md`: what each control does, for the people who turn it on.

use std::fmt::Write as _;

use redress_common::catalogue::{Risk, Scope};
use redress_common::ids::ControlId;
use redress_common::names;
use serde_json::Value;

use crate::control::{Body, Call, Control, Parameter};
use crate::iam;

/// The page, in Markdown.
#[must_use]
pub fn catalogue_page(controls: &[Control]) -> String {
    let mut controls: Vec<&Control> = controls.iter().collect();
    controls.sort_by_key(|control| natural(&control.id));
    let mut page = String::from(
        "<!-- Generated from ssm-documents/controls/ by `cargo xtask generate`. Do not edit. -->\n\
         # Catalogue of controls\n\n\
         | control | what must hold | what is done | risk |\n|---|---|---|---|\n",
    );
    for control in &controls {
        let anchor = control.id.as_str().to_lowercase().replace('.', "");
        line(
            &mut page,
            &format!(
                "| [{}](#{anchor}) | {} | {} | {} |",
                control.id,
                control.title,
                control.action,
                control.risk.as_str()
            ),
        );
    }
    page.push_str(
        "\nEvery change is preceded by its pre-image in the account's evidence bucket and followed by reading the resource\n\
         back. `DryRun`, the default, stores the exact change and makes none. Undo is refused when somebody else changed the\n\
         resource since.\n",
    );
    for control in controls {
        section(&mut page, control);
    }
    page
}

/// By family, then by number.
fn natural(id: &ControlId) -> (String, u32, String) {
    let rest = id.as_str().split_once('.').map_or("", |(_, rest)| rest);
    (id.family().to_owned(), rest.parse().unwrap_or(u32::MAX), rest.to_owned())
}

fn line(page: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}

fn section(page: &mut String, control: &Control) {
    line(page, &format!("\n## {}\n\n{}.\n", control.id, control.title));
    line(page, &format!("- **Does**: {}.", control.action));
    line(page, &format!("- **Applies to**: {}, {}.", control.resource.types.join(", "), scope(control.scope)));
    line(page, &format!("- **Risk**: {}.", risk(control)));
    line(page, &format!("- **Reported by**: {}.", reporters(control)));
    match &control.body {
        Body::Api(api) => {
            line(page, &format!("- **Reads**: {}.", calls(std::slice::from_ref(&api.inspect.call))));
            line(page, &format!("- **Changes**: {}.", calls(&api.apply)));
            let undo = if api.restore.absent.is_empty() {
                calls(&api.restore.present)
            } else {
                format!("{}; {} where nothing was set before", calls(&api.restore.present), calls(&api.restore.absent))
            };
            line(page, &format!("- **Undo**: {undo}."));
        }
        Body::Native(native) => {
            let family = control.resource.types.first().and_then(|kind| names::contain_family(kind));
            let function = match family.filter(|_| control.direct) {
                Some(family) => format!("{}`, invoked directly", names::contain_function(family)),
                None => format!("{}`", names::native_function(&control.id)),
            };
            line(page, &format!("- **Done by**: native function `{}` of `{function}.", native.name));
            let undo = if control.undo.is_empty() { "by the same function, to the pre-image." } else { &control.undo };
            line(page, &format!("- **Undo**: {undo}"));
        }
        Body::Guidance(steps) => {
            line(page, "- **Done by**: a person; Redress tells these steps and changes nothing.");
            steps.iter().enumerate().for_each(|(index, step)| line(page, &format!("  {}. {step}", index + 1)));
        }
    }
    if let Some(workflow) = control.workflow {
        let copy = if workflow.snapshot { "a safety copy is made and waited for, then " } else { "" };
        let back = if workflow.roll_back { "; what fails or cannot be verified is put back at once" } else { "" };
        line(
            page,
            &format!(
                "- **Workflow**: always by `{}`: {copy}it is applied and verified{back}.",
                names::WORKFLOW_STATE_MACHINE
            ),
        );
    }
    let actions: Vec<String> = iam::actions(control).into_keys().map(|action| format!("`{action}`")).collect();
    if !actions.is_empty() {
        line(page, &format!("- **IAM actions**: {}.", actions.join(", ")));
    }
    for (name, parameter) in &control.parameters {
        line(
            page,
            &format!(
                "- **Parameter `{name}`**: {}. Default `{}`{}.",
                parameter.description,
                parameter.default,
                bounds(parameter)
            ),
        );
    }
    if !control.frameworks.is_empty() {
        let frameworks: Vec<String> = control
            .frameworks
            .iter()
            .map(|(name, requirements)| format!("{name}: {}", requirements.join(", ")))
            .collect();
        line(page, &format!("- **Frameworks**: {}.", frameworks.join("; ")));
    }
    if !control.note.is_empty() {
        line(page, &format!("- **Mind**: {}", control.note));
    }
    line(page, &format!("- **Example**: {}", control.example));
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Regional => "in the Region of the finding",
        Scope::Global => "once an account",
    }
}

fn risk(control: &Control) -> &'static str {
    match control.risk {
        Risk::Reversible => "reversible; can be undone",
        Risk::Disruptive => "disruptive; can be undone, but may interrupt service",
        Risk::Destructive if control.undo.is_empty() => "destructive; people must approve it",
        Risk::Destructive => "destructive; people must approve it, and it cannot wholly be undone",
    }
}

fn reporters(control: &Control) -> String {
    let named = |what: &str, names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let sources = &control.sources;
    [
        named("Security Hub", &sources.security_hub),
        named("Config rule", &sources.config),
        named("GuardDuty", &sources.guardduty),
        named("formerly", &sources.legacy),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ")
}

fn calls(calls: &[Call]) -> String {
    calls.iter().map(|call| format!("`{}:{}`", call.service, call.operation)).collect::<Vec<_>>().join(", ")
}

fn bounds(parameter: &Parameter) -> String {
    let mut text = String::new();
    if let Some(least) = parameter.minimum {
        text.push_str(&format!(", at least {least}"));
    }
    if let Some(most) = parameter.maximum {
        text.push_str(&format!(", at most {most}"));
    }
    if let Some(known) = &parameter.one_of {
        let known: Vec<String> = known.iter().map(Value::to_string).collect();
        text.push_str(&format!(", one of {}", known.join(", ")));
    }
    text
}

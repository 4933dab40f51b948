//! The templates of `stacksets/`, for tests of what is in them.

use super::Template;

/// The administrator stack, and what it nests.
pub(crate) const ADMINISTRATOR: [&str; 7] = [
    include_str!("../../../stacksets/administrator-stack.yaml"),
    include_str!("../../../stacksets/administrator/data.yaml"),
    include_str!("../../../stacksets/administrator/events.yaml"),
    include_str!("../../../stacksets/administrator/workflow.yaml"),
    include_str!("../../../stacksets/administrator/functions.yaml"),
    include_str!("../../../stacksets/administrator/securityhub.yaml"),
    MONITORING,
];
pub(crate) const MONITORING: &str = include_str!("../../../stacksets/administrator/monitoring.yaml");
pub(crate) const MEMBER: &str = include_str!("../../../stacksets/member-stack.yaml");
pub(crate) const REGION: &str = include_str!("../../../stacksets/member-region.yaml");

/// Everything of the administrator stack as if it were one template. Of two resources with one logical id, `Workflow` and
/// `Functions` say, each keeps its own: the id has its file's number before it.
pub(crate) fn administrator() -> Template {
    let mut all = Template::parse(ADMINISTRATOR[0]).unwrap();
    for (number, text) in ADMINISTRATOR.iter().enumerate().skip(1) {
        let mut part = Template::parse(text).unwrap();
        for section in ["Conditions", "Parameters", "Resources"] {
            for (name, value) in part.0[section].as_object_mut().into_iter().flatten() {
                let name = if section == "Resources" { format!("{number}{name}") } else { name.clone() };
                if all.0[section].get(&name).is_none() {
                    all.0[section][name] = value.take();
                }
            }
        }
    }
    all
}

//! docs/doctor.md: its tables are made of [`super::CHECKS`], and are checked to be current.
//!
//! `REDRESS_WRITE=1 cargo test -p redress-cli doctor::page` writes them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::finding::{ACCOUNT_EMPTY, Check, Fault, REGION_EMPTY, Where};
use super::{CHECKS, deployment};

const BEGIN: &str = "<!-- generated: the checks. See cli/src/deploy/doctor/page.rs -->\n";
const END: &str = "<!-- end of what is generated -->\n";

fn row(fault: &Fault) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    format!(
        "| `{}` | {} | {} | {} | {} |\n",
        fault.code,
        fault.severity.text(),
        cell(fault.about),
        cell(fault.why),
        cell(fault.todo)
    )
}

fn tables() -> String {
    let mut text = String::new();
    for check in CHECKS {
        text.push_str(&format!("### {}\n*{}.* Looks at {}.\n\n", check.id.name(), check.at.text(), check.about));
        text.push_str("| code | severity | what is wrong | why it matters | what to do |\n|---|---|---|---|---|\n");
        check.faults.iter().for_each(|fault| text.push_str(&row(fault)));
        text.push('\n');
    }
    text.push_str("### Instead of many\n\n");
    text.push_str("| code | severity | what is wrong | why it matters | what to do |\n|---|---|---|---|---|\n");
    text.push_str(&row(&ACCOUNT_EMPTY));
    text.push_str(&row(&REGION_EMPTY));
    let listed =
        |rights: BTreeSet<&str>| rights.iter().map(|right| format!("`{right}`")).collect::<Vec<_>>().join(", ");
    let in_members = |check: &&&Check| !matches!(check.at, Where::Administrator | Where::Together);
    let of = |checks: &mut dyn Iterator<Item = &&'static Check>| -> BTreeSet<&'static str> {
        checks.flat_map(|check| check.rights).copied().collect()
    };
    let mut administrator = of(&mut CHECKS.iter());
    administrator.extend(deployment::RIGHTS);
    let mut members = of(&mut CHECKS.iter().filter(in_members));
    members.insert("iam:ListRolePolicies");
    text.push_str(&format!("\n### Rights\n\nIn the administrator account: {}.\n\n", listed(administrator)));
    text.push_str(&format!("In a member account: {}.\n\n", listed(members)));
    text
}

#[test]
fn the_page_lists_every_check_and_fault() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/doctor.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    if std::env::var_os("REDRESS_WRITE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
        return;
    }
    assert!(
        listed == tables(),
        "docs/doctor.md is not what the checks say: REDRESS_WRITE=1 cargo test -p redress-cli doctor::page"
    );
}
